// SPDX-License-Identifier: Apache-2.0
// A stand-in for libnvidia-ml: answers what the file that $NVML_STAND_IN names says, a line each:
//
//     init CODE                  nvmlInit fails so
//     card                       there is a card; the lines that follow are about it
//     fails CODE                 asked for it
//     hangs                      never answers
//     no-times                   does not know whose its time is
//     slice                      it is cut up; the lines that follow are about this part
//     use PID BYTES|- PERCENT    a process there
//
//     cc -shared -fPIC -o libnvidia-ml.so.1 nvml.c
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, UNKNOWN = 999 };
enum { PLACES = 64, PROCESSES = 64 };

struct process_info { /* nvmlProcessInfo_t, of the calls that end in _v3 */
	unsigned int pid;
	unsigned long long used;
	unsigned int gpu_instance, compute_instance;
};

struct sample { /* nvmlProcessUtilizationSample_t */
	unsigned int pid;
	unsigned long long time;
	unsigned int sm, memory, encoder, decoder;
};

struct place {
	int is_slice, fails, hangs, no_times, count;
	struct { unsigned int pid, percent; unsigned long long bytes; } processes[PROCESSES];
};

static struct place places[PLACES];
static int count, init_code;

static void read_what_to_say(void)
{
	char line[256], bytes[64];
	FILE *file = fopen(getenv("NVML_STAND_IN") ?: "", "r");
	struct place *p = places;
	unsigned int pid, percent;

	memset(places, 0, sizeof(places));
	count = init_code = 0;
	while (file && count < PLACES && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, "card", 4) || !strncmp(line, "slice", 5)) {
			p = &places[count++];
			p->is_slice = line[0] == 's';
		} else if (sscanf(line, "use %u %63s %u", &pid, bytes, &percent) == 3 && p->count < PROCESSES) {
			p->processes[p->count].pid = pid;
			p->processes[p->count].percent = percent;
			p->processes[p->count++].bytes = bytes[0] == '-' ? ~0ULL : strtoull(bytes, NULL, 10);
		}
		sscanf(line, "init %d", &init_code);
		sscanf(line, "fails %d", &p->fails);
		p->hangs |= !strncmp(line, "hangs", 5);
		p->no_times |= !strncmp(line, "no-times", 8);
	}
	if (file)
		fclose(file);
}

static struct place *card(unsigned int number)
{
	for (int i = 0; i < count; i++)
		if (!places[i].is_slice && !number--)
			return &places[i];
	return NULL;
}

int nvmlInitWithFlags(unsigned int flags)
{
	read_what_to_say();
	return init_code;
}

int nvmlInit_v2(void)
{
	return nvmlInitWithFlags(0);
}

int nvmlShutdown(void)
{
	return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned int *cards)
{
	read_what_to_say();
	for (*cards = 0; card(*cards);)
		++*cards;
	return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int number, struct place **found)
{
	*found = card(number);
	if (!*found)
		return NOT_FOUND;
	while ((*found)->hangs)
		pause();
	return (*found)->fails;
}

int nvmlDeviceGetMigMode(struct place *p, unsigned int *current, unsigned int *pending)
{
	*current = *pending = p + 1 < places + count && p[1].is_slice;
	return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(struct place *p, unsigned int *most)
{
	*most = 7;
	return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(struct place *p, unsigned int number, struct place **found)
{
	for (unsigned int i = 0; i <= number; i++)
		if (++p >= places + count || !p->is_slice)
			return NOT_FOUND;
	*found = p;
	return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(struct place *p, unsigned int *room, struct process_info *infos)
{
	if (*room < (unsigned int)p->count) {
		*room = p->count;
		return INSUFFICIENT_SIZE;
	}
	*room = p->count;
	for (int i = 0; i < p->count; i++)
		infos[i] = (struct process_info){ .pid = p->processes[i].pid, .used = p->processes[i].bytes };
	return SUCCESS;
}

int nvmlDeviceGetProcessUtilization(struct place *p, struct sample *samples, unsigned int *room,
				    unsigned long long since)
{
	struct timespec now;
	unsigned int busy = 0;

	if (p->no_times || p->is_slice)
		return NOT_SUPPORTED;
	for (int i = 0; i < p->count; i++)
		busy += p->processes[i].percent > 0;
	if (!busy)
		return NOT_FOUND;
	if (!samples || *room < busy) {
		*room = busy;
		return INSUFFICIENT_SIZE;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	*room = 0;
	for (int i = 0; i < p->count; i++)
		if (p->processes[i].percent)
			samples[(*room)++] = (struct sample){
				.pid = p->processes[i].pid,
				.sm = p->processes[i].percent,
				.time = now.tv_sec * 1000000ULL + now.tv_nsec / 1000,
			};
	return SUCCESS;
}
