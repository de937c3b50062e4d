/* The floor: what any proxy on this machine pays to the kernel. A relay that parses nothing.
 *
 *     floor PORT ORIGIN_PORT WORKERS [SERVERS]
 *
 * Each client connection has an upstream connection of its own. Per request there are four system calls, receive
 * and send on either side, and a share of an epoll_wait; whatever a proxy costs above that is its own work. Workers
 * are processes with a listening socket each, among which the kernel shares out the clients (SO_REUSEPORT).
 *
 * With SERVERS each request, which must come in one piece as its answer, goes to the next of SERVERS servers
 * (127.0.0.1, 127.0.0.2, as bench/farm.py numbers them), over the connection to it that was used last.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 65536, MAX_SERVERS = 4096, BUFFER = 1 << 16, NOBODY = -1 };

static int partners[MAX_CONNECTIONS];   /* by file descriptor: the other side, or NOBODY; 0 = not open */
static int server_of[MAX_CONNECTIONS];  /* by file descriptor, from 1; 0 = a client */
static int rested[MAX_CONNECTIONS];     /* by file descriptor: the idle connection used before this one */
static int idle[MAX_SERVERS + 1];       /* by server: the idle connection used last; 0 = none */
static int servers, turn, origin_port;

static struct sockaddr_in local(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* The address of a server, from 1. */
static struct sockaddr_in place(int server)
{
    struct sockaddr_in address = local(origin_port);
    address.sin_addr.s_addr = htonl(0x7f000000 + ((server - 1) / 250 << 8) + 1 + (server - 1) % 250);
    return address;
}

static void watch(int poll, int fd)
{
    int one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
}

static int upstream_to(int poll, int server)
{
    struct sockaddr_in address = place(server);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || fd >= MAX_CONNECTIONS || connect(fd, (struct sockaddr *)&address, sizeof address)) {
        close(fd);
        return NOBODY;
    }
    server_of[fd] = server;
    watch(poll, fd);
    return fd;
}

static void admit(int poll, int listener)
{
    int client = accept(listener, NULL, NULL);
    int upstream = servers ? NOBODY : upstream_to(poll, 1);
    if (client < 0 || client >= MAX_CONNECTIONS || (!servers && upstream < 0)) {
        close(client);
        close(upstream);
        return;
    }
    server_of[client] = 0;
    partners[client] = upstream;
    if (upstream > 0)
        partners[upstream] = client;
    watch(poll, client);
}

static void finish(int fd)
{
    if (partners[fd] > 0) {
        close(partners[fd]);
        partners[partners[fd]] = 0;
    }
    partners[fd] = 0;
    close(fd);
}

/* Give a client a connection to the server whose turn it is. */
static void assign(int poll, int client)
{
    int server = turn = turn % servers + 1, fd = idle[server];
    if (fd)
        idle[server] = rested[fd];
    else if ((fd = upstream_to(poll, server)) < 0)
        return;
    partners[client] = fd;
    partners[fd] = client;
}

/* The answer is through. */
static void rest(int fd)
{
    rested[fd] = idle[server_of[fd]];
    idle[server_of[fd]] = fd;
    partners[partners[fd]] = NOBODY;
    partners[fd] = NOBODY;
}

static void relay(int poll, int fd)
{
    static char buffer[BUFFER];
    int n = recv(fd, buffer, sizeof buffer, 0), sent = 0;
    if (n > 0 && servers && !server_of[fd])
        assign(poll, fd);
    if (n <= 0 || partners[fd] < 0) {
        finish(fd);
        return;
    }
    while (sent < n) {      /* a blocking socket: it waits in the rare case that the peer's buffer is full */
        int m = send(partners[fd], buffer + sent, n - sent, MSG_NOSIGNAL);
        if (m < 0) {
            finish(fd);
            return;
        }
        sent += m;
    }
    if (servers && server_of[fd])
        rest(fd);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    int one = 1;
    struct rlimit files;
    struct sockaddr_in address = local(atoi(argv[1]));
    struct epoll_event event = {.events = EPOLLIN}, events[256];

    origin_port = atoi(argv[2]);
    servers = argc > 4 ? atoi(argv[4]) : 0;
    if (servers < 0 || servers > MAX_SERVERS)
        return 2;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 1; i < atoi(argv[3]); i++)
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            break;
        }
    int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("listen");
        return 1;
    }
    event.data.fd = listener;
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                admit(poll, listener);
            else if (partners[fd])
                relay(poll, fd);
        }
    }
}
