// SPDX-License-Identifier: Apache-2.0
// A stand-in for a compiled miner: it logs in, "submits" once and goes. There is nothing in it that computes.
//
//     cc -O1 -static -s -o NAME miner.c            NAME HOST PORT, or the two words in a file: NAME FILE
//     -DMARKED                                     with texts that a well-known miner has in its file
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <stdlib.h>

static const char login[] =
    "{\"id\":1,\"jsonrpc\":\"2.0\",\"method\":\"login\",\"params\":{\"login\":\"corpus-wallet\",\"pass\":\"rig1\","
    "\"agent\":\"XMRig/6.26.0 (Linux x86_64) libuv/1.51.0 gcc/13.3.0\",\"algo\":[\"rx/0\",\"rx/wow\"]}}\n";
static const char share[] =
    "{\"id\":2,\"jsonrpc\":\"2.0\",\"method\":\"submit\",\"params\":{\"id\":\"session01\",\"job_id\":\"job0001\","
    "\"nonce\":\"0a0b0c0d\",\"result\":\"0000\"}}\n";

#ifdef MARKED
__attribute__((used)) static const char *const marks[] = {
    "no valid configuration found, try https://xmrig.com/wizard",
    "--donate-level=N", "--coin=COIN", "--algo=ALGO", "hwloc topology successfully exported",
    "stratum+tcp://", "randomx_create_vm", "randomx_calculate_hash_first", "XMRig ",
};
#endif

int main(int argc, char **argv)
{
    char host[64] = "", answer[4096];
    int port = 0, fd;
    struct sockaddr_in to = { .sin_family = AF_INET };

    if (argc == 2) {
        FILE *file = fopen(argv[1], "r");
        if (!file || fscanf(file, "%63s %d", host, &port) != 2)
            return 2;
        fclose(file);
    } else if (argc == 3) {
        snprintf(host, sizeof(host), "%s", argv[1]);
        port = atoi(argv[2]);
    } else {
        return 2;
    }
#ifdef MARKED
    if (port < 0)
        for (unsigned i = 0; i < sizeof(marks) / sizeof(*marks); i++)
            puts(marks[i]);
#endif
    to.sin_port = htons(port);
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1)
        return 2;
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
        return 3;
    if (write(fd, login, sizeof(login) - 1) < 0 || read(fd, answer, sizeof(answer)) <= 0)
        return 4;
    usleep(200000);
    if (write(fd, share, sizeof(share) - 1) < 0 || read(fd, answer, sizeof(answer)) <= 0)
        return 4;
    return 0;
}
