// SPDX-License-Identifier: Apache-2.0
// A stand-in for a miner that makes nothing but 32-bit system calls (x86): it logs in and waits for the answer.
//
//     cc -O1 -static -no-pie -o NAME compat.c      NAME ADDRESS PORT
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

enum { SOCKET = 359, CONNECT = 362, SENDTO = 369, RECVFROM = 371 }; // arch/x86/entry/syscalls/syscall_32.tbl

// Not on the stack: 32-bit calls reach the first 4 GiB only.
static struct sockaddr_in place;
static char answer[4096];
static char login[] = "{\"id\":1,\"jsonrpc\":\"2.0\",\"method\":\"login\",\"params\":{\"login\":\"corpus-wallet\","
                      "\"pass\":\"rig1\",\"agent\":\"XMRig/6.26.0\",\"algo\":[\"rx/0\",\"rx/wow\"]}}\n";

static int call(int number, long one, long two, long three, long four)
{
    int result;

    asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(one), "c"(two), "d"(three), "S"(four), "D"(0) : "memory");
    return result;
}

int main(int argc, char **argv)
{
    int talk = call(SOCKET, AF_INET, SOCK_STREAM, 0, 0);

    if (argc < 3)
        return 2;
    place.sin_family = AF_INET;
    place.sin_port = htons(atoi(argv[2]));
    inet_pton(AF_INET, argv[1], &place.sin_addr);
    if (talk < 0 || call(CONNECT, talk, (long)&place, sizeof(place), 0))
        return 3;
    if (call(SENDTO, talk, (long)login, strlen(login), 0) < 0)
        return 4;
    return call(RECVFROM, talk, (long)answer, sizeof(answer), 0) <= 0;
}
