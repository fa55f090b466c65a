/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is observed while tracers are compared: in C, so that a figure is the kernel's and the tracer's, not
 * an interpreter's. It says `ready` and waits for a line on standard input, by which time the tracer is there; at
 * the end it says `done` and waits for the end of its input, so that the tracer can be looked at.
 *
 *   work chain COUNT PAUSE_US TIMES      execs itself COUNT times, from one process
 *   work connect COUNT PAUSE_US TIMES    COUNT datagram sockets, each connected to a port of its own on loopback
 *   work storm RATE SECONDS TIMES        the same at so many a second (0: as fast as it goes); no times but a count
 *   work ops ROUNDS                      ns an operation, one JSON line a round
 *   work syscalls ROUNDS                 ns a getppid(2), one JSON line a round: for who is not traced
 *
 * TIMES: a file of u64s: when each began, by CLOCK_BOOTTIME in ns; the last one is written by no exec.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIRST_PORT 20000
#define PORTS 40000

extern char **environ;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void rest(uint64_t ns)
{
	struct timespec t = {ns / 1000000000, ns % 1000000000};

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

static void wait_for_go(void)
{
	char line[16];

	puts("ready");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		exit(1);
}

static void finish(void)
{
	puts("done");
	fflush(stdout);
	while (getchar() != EOF)
		;
	exit(0);
}

static void note(const char *file, int number, uint64_t at)
{
	int fd = open(file, O_WRONLY | O_CREAT, 0644);

	if (fd < 0 || pwrite(fd, &at, sizeof(at), number * 8) != sizeof(at))
		fail(file);
	close(fd);
}

/* The pause comes first: a program that has just begun may still be looked at. */
static void chain(int number, int count, const char *pause, const char *file)
{
	char label[32], whole[16];
	char *argv[] = {"work", "hop", label, whole, (char *)pause, (char *)file, NULL};

	rest(atoi(pause) * 1000ull);
	if (number == count)
		finish();
	snprintf(label, sizeof(label), "seq=%06d", number);
	snprintf(whole, sizeof(whole), "%d", count);
	note(file, number, now());
	execve("/proc/self/exe", argv, environ);
	fail("execve");
}

static void connect_once(int number)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(FIRST_PORT + number % PORTS),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		fail("connect");
	close(fd);
}

static void connects(int count, uint64_t pause_us, const char *file)
{
	for (int number = 0; number < count; number++) {
		rest(pause_us * 1000);
		note(file, number, now());
		connect_once(number);
	}
}

/* Caught up with once a millisecond: a pause of less is longer than asked for. */
static void storm(uint64_t rate, double seconds, const char *file)
{
	uint64_t began = now(), end = began + (uint64_t)(seconds * 1e9), done = 0, at;

	while ((at = now()) < end) {
		uint64_t due = rate ? (at - began) * rate / 1000000000 : done + 64;

		for (; done < due; done++)
			connect_once(done);
		if (rate)
			rest(1000000);
	}
	note(file, 0, done);
	note(file, 1, now() - began);
}

/* ---------------------------------------------------------------- operations */

static void do_spawn(int left)
{
	char *argv[] = {"true", NULL};

	while (left--) {
		pid_t pid;

		if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ))
			fail("posix_spawn");
		if (waitpid(pid, NULL, 0) != pid)
			fail("waitpid");
	}
}

static int listener, served;
static struct sockaddr_in place;

/* The other end of TCP: a thread, so it is traced as well; each contender has the same. */
static void *serve(void *unused)
{
	static char buffer[65536];

	(void)unused;
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		ssize_t got;

		if (fd < 0)
			return NULL;
		while ((got = read(fd, buffer, sizeof(buffer))) > 0)
			if (got <= 64 && write(fd, buffer, got) != got)
				break;
		close(fd);
		served++;
	}
}

static int dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0 || connect(fd, (struct sockaddr *)&place, sizeof(place)))
		fail("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static void do_connect(int left)
{
	struct linger now_or_never = {1, 0}; /* no socket is left in TIME_WAIT */

	while (left--) {
		int fd = dial();

		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now_or_never, sizeof(now_or_never));
		close(fd);
	}
}

static void do_ask(int left)
{
	char buffer[64] = "x";
	int fd = dial();

	while (left--)
		if (write(fd, buffer, 1) != 1 || read(fd, buffer, sizeof(buffer)) != 1)
			fail("ask");
	close(fd);
}

static void do_stream(int left)
{
	static char chunk[65536];
	int fd = dial();

	while (left--)
		for (size_t at = 0; at < sizeof(chunk);) {
			ssize_t put = write(fd, chunk + at, sizeof(chunk) - at);

			if (put <= 0)
				fail("stream");
			at += put;
		}
	close(fd);
}

static void do_datagram(int left)
{
	char data[64] = "x";
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), to = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in there = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(there);

	if (bind(to, (struct sockaddr *)&there, size) || getsockname(to, (struct sockaddr *)&there, &size) ||
	    connect(fd, (struct sockaddr *)&there, size))
		fail("datagram");
	while (left--) /* its queue is soon full, and the rest is dropped: that costs the same for all */
		send(fd, data, sizeof(data), 0);
	close(fd);
	close(to);
}

static void do_ioctl(int left)
{
	int fd = open("/dev/full", O_RDWR | O_CLOEXEC);

	while (left--)
		syscall(SYS_ioctl, fd, 0xc020462a, 0);
	close(fd);
}

static void do_getppid(int left)
{
	while (left--)
		syscall(SYS_getppid);
}

static const struct operation {
	const char *name;
	void (*act)(int);
	int count;
} operations[] = {
	{"exec", do_spawn, 60},	      {"connect", do_connect, 300},    {"ask", do_ask, 1500},
	{"stream", do_stream, 2000},  {"datagram", do_datagram, 10000}, {"ioctl", do_ioctl, 10000},
	{"getppid", do_getppid, 20000},
};

static void round_of(int first, int last)
{
	printf("{");
	for (int i = first; i < last; i++) {
		uint64_t began = now();

		operations[i].act(operations[i].count);
		printf("%s\"%s\": %.1f", i > first ? ", " : "", operations[i].name,
		       (double)(now() - began) / operations[i].count);
	}
	printf("}\n");
	fflush(stdout);
}

static void listen_here(void)
{
	socklen_t size = sizeof(place);
	pthread_t thread;

	place.sin_family = AF_INET;
	place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&place, size) || listen(listener, 512) ||
	    getsockname(listener, (struct sockaddr *)&place, &size) || pthread_create(&thread, NULL, serve, NULL))
		fail("listen");
}

int main(int argc, char **argv)
{
	const int all = sizeof(operations) / sizeof(operations[0]);
	const char *what = argc > 1 ? argv[1] : "";

	signal(SIGPIPE, SIG_IGN);
	if (argc == 6 && !strcmp(what, "hop"))
		chain(atoi(argv[2] + 4) + 1, atoi(argv[3]), argv[4], argv[5]);
	wait_for_go();
	if (argc == 5 && !strcmp(what, "chain")) {
		chain(0, atoi(argv[2]), argv[3], argv[4]);
	} else if (argc == 5 && !strcmp(what, "connect")) {
		connects(atoi(argv[2]), atoi(argv[3]), argv[4]);
	} else if (argc == 5 && !strcmp(what, "storm")) {
		storm(atoi(argv[2]), atof(argv[3]), argv[4]);
	} else if (argc == 3 && !strcmp(what, "ops")) {
		listen_here();
		for (int left = atoi(argv[2]); left > 0; left--)
			round_of(0, all);
	} else if (argc == 3 && !strcmp(what, "syscalls")) {
		for (int left = atoi(argv[2]); left > 0; left--)
			round_of(all - 1, all);
	} else {
		fprintf(stderr, "work: what?\n");
		return 1;
	}
	finish();
}
