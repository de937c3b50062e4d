/* The cheapest server that a proxy can have behind it: GET /bytes/N on keep-alive connections, one thread, epoll.
 *
 *     origin PORT
 *
 * It looks at nothing but the number in the first line and the end of the head, and sends a prepared answer, so that
 * the core it shares with the load generator is not what limits a run. Bodies of requests are not supported.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 4096, MAX_HEAD = 16384, MAX_BODY = 1 << 20, PREPARED = 8 };

static char *heads[MAX_CONNECTIONS];    /* by file descriptor: the request read so far */
static int lengths[MAX_CONNECTIONS];

static struct { int size, length; char *bytes; } answers[PREPARED];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int answer_for(int size)
{
    int i;
    for (i = 0; i < PREPARED && answers[i].bytes; i++)
        if (answers[i].size == size)
            return i;
    if (i == PREPARED || size < 0 || size > MAX_BODY)
        return -1;
    answers[i].bytes = malloc(size + 256);
    int head = sprintf(answers[i].bytes,
                       "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\n"
                       "Cache-Control: no-cache\r\nContent-Length: %d\r\n\r\n", size);
    memset(answers[i].bytes + head, 'x', size);
    answers[i].size = size;
    answers[i].length = head + size;
    return i;
}

static void finish(int fd)
{
    lengths[fd] = 0;
    close(fd);
}

/* Answers every complete head in the buffer, one after the other. Returns 0 if the connection is to be closed. */
static int respond(int fd)
{
    char *start = heads[fd], *stop = start + lengths[fd], *end;
    while ((end = memmem(start, stop - start, "\r\n\r\n", 4))) {
        int which = strncmp(start, "GET /bytes/", 11) ? -1 : answer_for(atoi(start + 11));
        if (which < 0)
            return 0;
        int sent = 0;
        while (sent < answers[which].length) {
            int n = send(fd, answers[which].bytes + sent, answers[which].length - sent, MSG_NOSIGNAL);
            if (n < 0)
                return 0;
            sent += n;
        }
        start = end + 4;
    }
    lengths[fd] = stop - start;
    memmove(heads[fd], start, lengths[fd]);
    return lengths[fd] < MAX_HEAD;
}

int main(int argc, char **argv)
{
    int one = 1, port = argc > 1 ? atoi(argv[1]) : 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN}, events[256];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024))
        die("listen");
    event.data.fd = listener;
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int client = accept(listener, NULL, NULL);
                if (client < 0)
                    continue;
                if (client >= MAX_CONNECTIONS) {
                    close(client);
                    continue;
                }
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                if (!heads[client])
                    heads[client] = malloc(MAX_HEAD);
                event.data.fd = client;
                epoll_ctl(poll, EPOLL_CTL_ADD, client, &event);
                continue;
            }
            int n = recv(fd, heads[fd] + lengths[fd], MAX_HEAD - lengths[fd], 0);
            if (n > 0)
                lengths[fd] += n;
            if (n <= 0 || !respond(fd))
                finish(fd);
        }
    }
}
