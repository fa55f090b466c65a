// SPDX-License-Identifier: Apache-2.0
// A stand-in for what keeps processors busy: threads or processes that count, and a connection over which messages
// go both ways now and then. It hashes nothing, nor anything else of use.
//
//     cc -O1 -pthread -o NAME worker.c
//     NAME SECONDS WORKERS threads|forks [HOST PORT BYTES MILLISECONDS]      says and hears so many bytes, so often
//     NAME SECONDS WORKERS threads|forks serve PORT                            answers whoever asks instead
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double end;
static volatile unsigned long sink;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void *count(void *unused)
{
	unsigned long x = 1;

	while (now() < end)
		for (int i = 0; i < 1 << 20; i++)
			x = x * 6364136223846793005UL + 1442695040888963407UL;
	sink = x;
	return unused;
}

static int hear(int fd, char *data, size_t size)
{
	size_t have = 0;

	while (have < size) {
		ssize_t got = recv(fd, data + have, size - have, 0);

		if (got <= 0)
			return 0;
		have += got;
	}
	return 1;
}

static void fill(char *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		data[i] = rand() >> 7;
}

static int talk(char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])) };
	size_t size = atoi(argv[2]);
	char *data = malloc(size);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	inet_pton(AF_INET, argv[0], &to.sin_addr);
	if (!data || connect(fd, (void *)&to, sizeof(to)))
		return 3;
	while (now() < end) {
		fill(data, size);
		if (send(fd, data, size, 0) != (ssize_t)size || !hear(fd, data, size))
			return 4;
		usleep(atoi(argv[3]) * 1000);
	}
	return 0;
}

static int serve(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct timeval patience = { .tv_usec = 200000 }, calm = { .tv_sec = 2 };
	int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0), fd;
	char data[256];

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (bind(listener, (void *)&at, sizeof(at)) || listen(listener, 1))
		return 3;
	while (now() < end) {
		ssize_t got;

		fd = accept(listener, NULL, NULL);
		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &calm, sizeof(calm)); /* the listener's is inherited */
		while (now() < end && (got = recv(fd, data, sizeof(data), 0)) > 0)
			send(fd, data, got, 0);
		close(fd);
	}
	return 0;
}

int main(int argc, char **argv)
{
	int workers = atoi(argv[2]), status = 0;

	end = now() + atof(argv[1]);
	for (int i = 0; i < workers; i++) {
		pthread_t thread;

		if (strcmp(argv[3], "forks") == 0) {
			if (fork() == 0) {
				count(NULL);
				_exit(0);
			}
		} else {
			pthread_create(&thread, NULL, count, NULL);
		}
	}
	if (argc > 5)
		status = strcmp(argv[4], "serve") ? talk(argv + 4) : serve(atoi(argv[5]));
	while (now() < end)
		usleep(50000);
	while (wait(NULL) > 0)
		;
	return status;
}
