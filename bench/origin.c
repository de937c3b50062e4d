/* The cheapest server that a proxy can have behind it: keep-alive connections, one thread, edge-triggered epoll.
 *
 *     origin PORT COUNT
 *
 * It listens on PORT of the first COUNT addresses of 127.0.0.1, 127.0.0.2, ... 127.0.0.250, 127.0.1.1, ..., so that one
 * process is as many servers as a case needs. What it serves:
 *
 *     GET /bytes/N     N bytes
 *     POST /sink       takes a body of Content-Length bytes and forgets it
 *     GET /ws          WebSocket: sends every frame of up to 125 bytes back
 *     GET /stats       "connections requests\n": how many connections have carried requests, and how many these were
 *
 * It looks at nothing but the first line, Content-Length and the end of the head, so that the core it shares with the
 * load generator is not what limits a run.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 65536, BUFFER = 1 << 18, MAX_HELD = 16384, BLOCK = 1 << 20, PREPARED = 16 };

typedef struct { int64_t size; int64_t total; int ready; char *bytes; } Answer;   /* `ready` of `total` bytes are here */

typedef struct {
    char *held;             /* the beginning of a head that has not come in whole */
    int held_len;
    const Answer *answer;   /* being sent */
    int64_t sent;
    int64_t body_left;      /* of an upload */
    char listens, open, used, websocket;
} Connection;

static Connection connections[MAX_CONNECTIONS];    /* by file descriptor */
static Answer answers[PREPARED];
static char buffer[BUFFER], block[BLOCK];
static int64_t used_connections, requests;

static const char UPGRADED[] =  /* to the key of the example in RFC 6455, section 1.3, which the load sends */
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* The answer of `size` bytes: its head and the first BLOCK bytes are made once. NULL if there are too many sizes. */
static const Answer *answer_for(int64_t size)
{
    int i, here = size < BLOCK ? size : BLOCK;
    for (i = 0; i < PREPARED && answers[i].bytes; i++)
        if (answers[i].size == size)
            return &answers[i];
    if (i == PREPARED || size < 0)
        return NULL;
    answers[i].bytes = malloc(here + 256);
    int head = sprintf(answers[i].bytes,
                       "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\n"
                       "Cache-Control: no-cache\r\nContent-Length: %lld\r\n\r\n", (long long)size);
    memset(answers[i].bytes + head, 'x', here);
    answers[i] = (Answer){.size = size, .total = head + size, .ready = head + here, .bytes = answers[i].bytes};
    return &answers[i];
}

static void finish(int fd)
{
    free(connections[fd].held);
    connections[fd] = (Connection){0};
    close(fd);
}

/* Sends what is to be sent. Returns 1 when that is done, 0 when it has to wait, -1 when the connection is broken. */
static int push(int fd)
{
    Connection *c = &connections[fd];
    while (c->answer && c->sent < c->answer->total) {
        int64_t left = c->answer->total - c->sent;
        int prepared = c->sent < c->answer->ready;
        const char *from = prepared ? c->answer->bytes + c->sent : block;
        int64_t here = prepared ? c->answer->ready - c->sent : BLOCK;
        ssize_t n = send(fd, from, here < left ? here : left, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        c->sent += n;
    }
    c->answer = NULL;
    return 1;
}

static int say(int fd, const char *text, int n)
{
    return send(fd, text, n, MSG_NOSIGNAL) == n ? 1 : -1;
}

static int serve(int fd, const char *head, int n)
{
    Connection *c = &connections[fd];
    if (!strncmp(head, "GET /stats ", 11)) {
        char text[128], body[64];
        int length = sprintf(body, "%lld %lld\n", (long long)used_connections, (long long)requests);
        return say(fd, text, sprintf(text, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", length, body));
    }
    requests++;
    if (!c->used) {
        c->used = 1;
        used_connections++;
    }
    if (!strncmp(head, "GET /bytes/", 11)) {
        c->answer = answer_for(atoll(head + 11));
        c->sent = 0;
        return c->answer ? push(fd) : -1;
    }
    if (!strncmp(head, "POST /sink ", 11)) {
        const char *field = memmem(head, n, "ontent-", 7);
        while (field && strncasecmp(field, "ontent-length:", 14))
            field = memmem(field + 1, n - (field + 1 - head), "ontent-", 7);
        if (!field)
            return -1;
        c->body_left = atoll(field + 14);
        if (c->body_left == 0)
            return -1;
        return 1;
    }
    if (!strncmp(head, "GET /ws ", 8)) {
        c->websocket = 1;
        return say(fd, UPGRADED, sizeof UPGRADED - 1);
    }
    return -1;
}

/* Sends a client's frame back, without its mask (RFC 6455, section 5.3). Returns its length, 0 if it is not whole. */
static int echo(int fd, unsigned char *p, int n)
{
    int size = n > 1 ? p[1] & 127 : 0;
    if (n < 6 || n < 6 + size)
        return 0;
    if (!(p[1] & 128) || size > 125)
        return -1;
    for (int i = 0; i < size; i++)
        p[6 + i] ^= p[2 + (i & 3)];
    p[4] = p[0];
    p[5] = size;
    requests++;
    return say(fd, (char *)p + 4, size + 2) < 0 ? -1 : 6 + size;
}

/* Uses up the n bytes at p. Returns how many it did, -1 if the connection is to be closed. */
static int consume(int fd, char *p, int n)
{
    Connection *c = &connections[fd];
    int at = 0;
    while (at < n && !c->answer) {
        if (c->body_left) {
            int64_t here = n - at < c->body_left ? n - at : c->body_left;
            at += here;
            c->body_left -= here;
            if (c->body_left == 0) {
                c->answer = answer_for(2);
                c->sent = 0;
                if (push(fd) < 0)
                    return -1;
            }
        } else if (c->websocket) {
            int used = echo(fd, (unsigned char *)p + at, n - at);
            if (used < 0)
                return -1;
            if (used == 0)
                break;
            at += used;
        } else {
            char *end = memmem(p + at, n - at, "\r\n\r\n", 4);
            if (!end)
                break;
            int length = end + 4 - (p + at);
            if (serve(fd, p + at, length) < 0)
                return -1;
            at += length;
        }
    }
    return at;
}

static int hold(Connection *c, const char *p, int n)
{
    if (n > MAX_HELD)
        return -1;
    if (n && !c->held)
        c->held = malloc(MAX_HELD);
    if (n)
        memmove(c->held, p, n);
    c->held_len = n;
    return 0;
}

static void serve_event(int fd)
{
    Connection *c = &connections[fd];
    for (;;) {
        int state = push(fd);
        if (state < 0) {
            finish(fd);
            return;
        }
        if (state == 0)
            return;     /* read on when the answer is out: the event for that comes */
        if (c->held_len)
            memcpy(buffer, c->held, c->held_len);
        ssize_t n = recv(fd, buffer + c->held_len, BUFFER - c->held_len, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            finish(fd);
            return;
        }
        n += c->held_len;
        int used = consume(fd, buffer, n);
        if (used < 0 || hold(c, buffer + used, n - used) < 0) {
            finish(fd);
            return;
        }
        if (n < BUFFER && !c->answer)
            return;     /* all has been read; more makes another event */
    }
}

static void admit(int poll, int listener)
{
    int one = 1, fd;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET};
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MAX_CONNECTIONS) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connections[fd].open = 1;
        event.data.fd = fd;
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    int one = 1, port = atoi(argv[1]), count = atoi(argv[2]), poll = epoll_create1(0);
    struct rlimit files;
    struct epoll_event event = {.events = EPOLLIN}, events[256];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    memset(block, 'x', sizeof block);
    for (int i = count - 1; i >= 0; i--) {      /* the first address last: who can connect to it finds all */
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK + (i / 250) * 256 + i % 250)};
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096))
            die("listen");
        connections[listener].listens = 1;
        event.data.fd = listener;
        epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    }
    for (;;) {
        int ready = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (connections[fd].listens)
                admit(poll, fd);
            else if (connections[fd].open)
                serve_event(fd);
        }
    }
}
