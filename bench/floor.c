/* The floor: what any proxy on this machine pays to the kernel. A relay that parses nothing.
 *
 *     floor PORT ORIGIN_PORT WORKERS
 *
 * Each client connection has an upstream connection of its own. Per request there are four system calls, receive
 * and send on either side, and a share of an epoll_wait; whatever a proxy costs above that is its own work. Workers
 * are processes with a listening socket each, among which the kernel shares out the clients (SO_REUSEPORT).
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

enum { MAX_CONNECTIONS = 65536, BUFFER = 1 << 16 };

static int partners[MAX_CONNECTIONS];   /* by file descriptor: the other side; 0 = not open */

static struct sockaddr_in local(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void watch(int poll, int fd)
{
    int one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
}

static void admit(int poll, int listener, struct sockaddr_in *origin)
{
    int client = accept(listener, NULL, NULL), upstream = socket(AF_INET, SOCK_STREAM, 0);
    if (client < 0 || upstream < 0 || client >= MAX_CONNECTIONS || upstream >= MAX_CONNECTIONS
        || connect(upstream, (struct sockaddr *)origin, sizeof *origin)) {
        close(client);
        close(upstream);
        return;
    }
    partners[client] = upstream;
    partners[upstream] = client;
    watch(poll, client);
    watch(poll, upstream);
}

static void finish(int fd)
{
    close(partners[fd]);
    partners[partners[fd]] = 0;
    partners[fd] = 0;
    close(fd);
}

static void relay(int fd)
{
    static char buffer[BUFFER];
    int n = recv(fd, buffer, sizeof buffer, 0), sent = 0;
    if (n <= 0) {
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
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    int one = 1;
    struct rlimit files;
    struct sockaddr_in address = local(atoi(argv[1])), origin = local(atoi(argv[2]));
    struct epoll_event event = {.events = EPOLLIN}, events[256];

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
                admit(poll, listener, &origin);
            else if (partners[fd])
                relay(fd);
        }
    }
}
