/* The load: HTTP/1.1 requests or WebSocket messages, as fast as they are answered or at a constant rate. One thread.
 *
 *     load [options] PORT PATH
 *       -c N      connections (64)
 *       -d S      seconds (2): after them nothing new begins, what is under way is finished
 *       -n N      instead of -d: requests
 *       -r R      requests per second, evenly spaced; without it a connection asks again when it is answered
 *       -t        TLS 1.3; with -f: a new connection for each request, and
 *       -s          its handshake resumes the session before
 *       -f        a new connection for each request, closed by the server
 *       -u N      POST a body of N bytes
 *       -w N      WebSocket: each request is a message of N bytes (at most 125) that must come back
 *       -a N      come from N addresses, 127.0.0.1 and up (1)
 *       -h LINE   a header line, any number of times
 *       -i        idle: after the warm-up hold the connections until the end of standard input
 *
 * Every connection makes one request for a warm-up. Then "ready" is printed, and the measured part begins with a line on
 * standard input. Its result is a line of JSON: counts, seconds, latencies in microseconds.
 *
 * At a constant rate the clock of a request starts when it is due, not when a connection is free for it: a stall of the
 * proxy counts for all requests that it keeps waiting ("coordinated omission", Gil Tene, 2013). Latencies go into a
 * histogram with 128 steps per power of two, hence are exact to 0.8 %.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 18, MAX_HELD = 16384, STEPS = 128, BUCKETS = 40 * STEPS, MAX_MESSAGE = 125 };
enum { AGAIN = -1, BROKEN = -2 };

typedef enum { CLOSED, CONNECTING, SHAKING, UPGRADING, SENDING, WAITING, BODY, LEAVING, FREE } State;

typedef struct Connection {
    int fd;
    State state;
    char readable;
    SSL *ssl;
    SSL_SESSION *session;
    char *held;             /* the beginning of an answer's head */
    int held_len;
    int64_t sent, body_left;
    int64_t began;          /* when the request was due, in ns */
    struct Connection *next;
} Connection;

static struct {
    int count, tls, fresh, resume, message, addresses, idle, port;
    int64_t requests, upload;
    double seconds, rate;
} options = {.count = 64, .addresses = 1, .seconds = 2};

static Connection *connections, *free_first, *free_last;
static char *request, *upgrade, buffer[BUFFER];
static int64_t request_len, upgrade_len;
static SSL_CTX *context;
static int poll_fd;

static int64_t histogram[BUCKETS];
static int64_t done, begun, failed, unasked, connects, handshakes, resumed, longest, last_done;
static double sum;

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int bucket_of(int64_t ns)
{
    if (ns < STEPS)
        return ns < 0 ? 0 : ns;
    int shift = 63 - __builtin_clzll(ns) - 7;       /* ns >> shift is between STEPS and 2 * STEPS */
    int bucket = (shift + 1) * STEPS + (ns >> shift) - STEPS;
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static double percentile(double share)
{
    int64_t wanted = share * done, seen = 0;
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += histogram[i]) > wanted) {
            int shift = i < STEPS ? 0 : i / STEPS - 1;
            double middle = i < STEPS ? i : ((double)(i % STEPS + STEPS) + 0.5) * (1LL << shift);
            return middle / 1000;
        }
    return longest / 1000.0;
}

/* ---- one connection --------------------------------------------------------------------------------------------- */

static void put_free(Connection *c)
{
    c->next = NULL;
    if (free_last)
        free_last->next = c;
    else
        free_first = c;
    free_last = c;
}

static Connection *take_free(void)
{
    Connection *c = free_first;
    free_first = c->next;
    if (!free_first)
        free_last = NULL;
    return c;
}

static void drop(Connection *c)
{
    if (c->ssl) {
        SSL_set_quiet_shutdown(c->ssl, 1);      /* without it a connection's end makes its session unusable */
        SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
        c->ssl = NULL;
    }
    close(c->fd);
    c->fd = -1;
    c->state = CLOSED;
    c->held_len = 0;
}

static int new_session(SSL *ssl, SSL_SESSION *session)
{
    Connection *c = SSL_get_app_data(ssl);
    SSL_SESSION_free(c->session);
    c->session = session;
    return 1;
}

static void open_connection(Connection *c)
{
    int one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(options.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK + (c - connections) % options.addresses)};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(c->fd, (struct sockaddr *)&from, sizeof from))
        die("bind");
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
        die("connect");
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &event);
    connects++;
    c->readable = 0;
    c->state = CONNECTING;
    if (options.tls) {
        c->ssl = SSL_new(context);
        SSL_set_app_data(c->ssl, c);
        SSL_set_fd(c->ssl, c->fd);
        SSL_set_tlsext_host_name(c->ssl, "localhost");
        SSL_set_connect_state(c->ssl);
        if (options.resume && c->session)
            SSL_set_session(c->ssl, c->session);
    }
}

static ssize_t read_some(Connection *c, char *to, size_t n, int discard)
{
    if (c->ssl) {
        int got = SSL_read(c->ssl, to, n);
        if (got > 0)
            return got;
        int why = SSL_get_error(c->ssl, got);
        ERR_clear_error();
        if (why == SSL_ERROR_ZERO_RETURN)
            return 0;
        if (why != SSL_ERROR_WANT_READ)
            return BROKEN;
        c->readable = 0;
        return AGAIN;
    }
    ssize_t got = recv(c->fd, to, n, discard ? MSG_TRUNC : 0);
    if (got >= 0) {
        if ((size_t)got < n)
            c->readable = 0;    /* all that was there: more makes another event */
        return got;
    }
    c->readable = 0;
    return errno == EAGAIN ? AGAIN : BROKEN;
}

/* Sends the rest of `text`. Returns 1 when it is out. */
static int write_all(Connection *c, const char *text, int64_t n)
{
    while (c->sent < n) {
        ssize_t put;
        if (c->ssl) {
            put = SSL_write(c->ssl, text + c->sent, n - c->sent);
            if (put <= 0) {
                int why = SSL_get_error(c->ssl, put);
                ERR_clear_error();
                return why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ ? AGAIN : BROKEN;
            }
        } else {
            put = send(c->fd, text + c->sent, n - c->sent, MSG_NOSIGNAL);
            if (put < 0)
                return errno == EAGAIN ? AGAIN : BROKEN;
        }
        c->sent += put;
    }
    return 1;
}

static void fail(Connection *c)
{
    failed++;
    drop(c);
    put_free(c);
    if (failed > 1000 + options.count) {
        fprintf(stderr, "too many errors\n");
        exit(1);
    }
}

static void complete(Connection *c)
{
    last_done = now_ns();
    int64_t took = last_done - c->began;
    histogram[bucket_of(took)]++;
    sum += took;
    if (took > longest)
        longest = took;
    done++;
    if (options.fresh)
        c->state = LEAVING;     /* the server closes: its connection is not reset, and the time waits are its own */
    else {
        c->state = FREE;
        put_free(c);
    }
}

/* Looks at the head that `n` bytes at `p` begin with. Returns its length, AGAIN if it goes on, BROKEN if it is bad. */
static int read_head(Connection *c, char *p, int n, const char *status)
{
    char *end = memmem(p, n, "\r\n\r\n", 4);
    if (!end)
        return n < MAX_HELD ? AGAIN : BROKEN;
    if (n < 13 || memcmp(p + 9, status, 3))
        return BROKEN;
    c->body_left = 0;
    for (char *at = p; (at = memmem(at, end - at, "\n", 1)); at++)
        if (!strncasecmp(at + 1, "content-length:", 15))
            c->body_left = atoll(at + 16);
        else if (!strncasecmp(at + 1, "transfer-encoding:", 18))
            return BROKEN;
    return end + 4 - p;
}

/* Takes the n bytes at p (those held before among them). Returns 0 if the connection is broken. */
static int take(Connection *c, char *p, int n)
{
    int used;
    if (c->state == WAITING && options.message) {
        used = n >= 2 + options.message ? 2 + options.message : AGAIN;
        if (n >= 2 && ((p[0] & 15) != 2 || p[1] != options.message))
            return 0;
    } else
        used = read_head(c, p, n, c->state == UPGRADING ? "101" : "200");
    if (used == BROKEN)
        return 0;
    if (used == AGAIN) {
        if (!c->held)
            c->held = malloc(MAX_HELD);
        memmove(c->held, p, n);
        c->held_len = n;
        return 1;
    }
    c->held_len = 0;
    if (c->state == UPGRADING) {
        c->state = SENDING;
        c->sent = 0;
        return used == n;
    }
    if (options.message)
        complete(c);
    else {
        c->body_left -= n - used;
        if (c->body_left < 0)
            return 0;
        c->state = BODY;
        if (c->body_left == 0)
            complete(c);
    }
    return 1;
}

/* Does what can be done now. */
static void progress(Connection *c)
{
    for (;;) {
        ssize_t n;
        switch (c->state) {
        case CONNECTING:
            c->sent = 0;
            c->state = c->ssl ? SHAKING : options.message ? UPGRADING : SENDING;
            break;
        case SHAKING:
            n = SSL_do_handshake(c->ssl);
            if (n != 1) {
                int why = SSL_get_error(c->ssl, n);
                ERR_clear_error();
                if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
                    fail(c);
                return;
            }
            handshakes++;
            resumed += SSL_session_reused(c->ssl);
            c->state = options.message ? UPGRADING : SENDING;
            break;
        case UPGRADING:
        case SENDING:
            n = c->state == SENDING ? write_all(c, request, request_len) : write_all(c, upgrade, upgrade_len);
            if (n == BROKEN)
                fail(c);
            if (n != 1)
                return;
            if (c->state == SENDING)
                c->state = WAITING;
            if (!c->readable && !(c->ssl && SSL_has_pending(c->ssl)))
                return;
            /* fall through */
        case WAITING:
            if (c->held_len)
                memcpy(buffer, c->held, c->held_len);
            n = read_some(c, buffer + c->held_len, BUFFER - c->held_len, 0);
            if (n == AGAIN)
                return;
            if (n <= 0 || !take(c, buffer, c->held_len + n)) {
                fail(c);
                return;
            }
            if (c->state == FREE || (!c->readable && c->state != SENDING && !c->ssl))
                return;
            break;
        case BODY:
            n = read_some(c, buffer, BUFFER, 1);
            if (n == AGAIN)
                return;
            if (n <= 0 || n > c->body_left) {
                fail(c);
                return;
            }
            if ((c->body_left -= n) == 0)
                complete(c);
            if (c->state == FREE || (!c->readable && !c->ssl))
                return;
            break;
        case LEAVING:
            n = read_some(c, buffer, BUFFER, 0);
            if (n == AGAIN)
                return;
            drop(c);
            put_free(c);
            return;
        case FREE:      /* nothing was asked: only the end can come, or a ticket */
            n = read_some(c, buffer, BUFFER, 0);
            if (n == AGAIN)
                return;
            unasked += n != 0;
            drop(c);        /* closed after its last answer, as a server may; it stays in the queue */
            return;
        case CLOSED:
            return;
        }
    }
}

static void begin(int64_t due)
{
    Connection *c = take_free();
    c->began = due;
    begun++;
    if (c->state == CLOSED)
        open_connection(c);
    else {
        c->sent = 0;
        c->state = SENDING;
        progress(c);
    }
}

/* ---- a run ------------------------------------------------------------------------------------------------------ */

static void wait_for_events(int64_t ns)
{
    static struct epoll_event events[512];
    struct timespec timeout = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    int ready = epoll_pwait2(poll_fd, events, 512, &timeout, NULL);
    for (int i = 0; i < ready; i++) {
        Connection *c = events[i].data.ptr;
        if (c->fd < 0)
            continue;
        if (c->state == CONNECTING && !(events[i].events & EPOLLOUT))
            continue;
        if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
            c->readable = 1;
        if (c->state == WAITING && !c->readable)
            continue;       /* room to send, but there is nothing to */
        if (c->state == FREE && !c->readable)
            continue;
        progress(c);
    }
}

/* Makes `limit` requests (0: any number) that begin before `end`, `interval` ns apart (0: when there is a connection),
 * and waits for all of them. Returns the seconds that it took. */
static double run(int64_t limit, int64_t end, double interval)
{
    int64_t start = now_ns(), patience = 0;
    begun = done = failed = 0;
    last_done = start;
    for (;;) {
        int64_t now = now_ns(), due = interval > 0 ? start + (int64_t)(interval * begun) : now;
        int over = limit ? begun >= limit : due >= end;
        while (!over && free_first && due <= now) {
            begin(due);
            due = interval > 0 ? start + (int64_t)(interval * begun) : now;
            over = limit ? begun >= limit : due >= end;
        }
        if (over && done + failed >= begun)
            return (last_done - start) / 1e9;
        if (over && !patience)
            patience = now + 60000000000LL;
        if (patience && now > patience) {
            fprintf(stderr, "%lld requests were not answered within a minute\n", (long long)(begun - done));
            exit(1);
        }
        wait_for_events(!over && free_first && due > now ? due - now : 100000000);
    }
}

static void make_request(const char *path, char **fields, int count)
{
    static const char mask[4] = {0x37, (char)0xfa, 0x21, 0x3d};
    char *text = malloc(65536 + options.upload), *to = text;
    to += sprintf(to, "%s %s HTTP/1.1\r\nHost: localhost\r\n", options.upload ? "POST" : "GET", path);
    for (int i = 0; i < count; i++)
        to += sprintf(to, "%s\r\n", fields[i]);
    if (options.message) {
        to += sprintf(to, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
        upgrade = text;
        upgrade_len = to - text;
        request = malloc(6 + options.message);
        request[0] = (char)0x82;        /* a whole binary message; masked, as a client's must be */
        request[1] = (char)(0x80 | options.message);
        memcpy(request + 2, mask, 4);
        for (int i = 0; i < options.message; i++)
            request[6 + i] = 'x' ^ mask[i & 3];
        request_len = 6 + options.message;
        return;
    }
    if (options.fresh)
        to += sprintf(to, "Connection: close\r\n");
    if (options.upload)
        to += sprintf(to, "Content-Type: application/octet-stream\r\nContent-Length: %lld\r\n",
                      (long long)options.upload);
    to += sprintf(to, "\r\n");
    memset(to, 'y', options.upload);
    request = text;
    request_len = to - text + options.upload;
}

static void make_context(void)
{
    context = SSL_CTX_new(TLS_client_method());
    /* One cipher suite and one group, so that all proxies do the same arithmetic. */
    if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION)
        || !SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") || !SSL_CTX_set1_groups_list(context, "X25519"))
        die("TLS");
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);     /* the arithmetic measured is the proxy's */
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    if (options.resume)
        SSL_CTX_sess_set_new_cb(context, new_session);
}

int main(int argc, char **argv)
{
    char *fields[64], line[64];
    int count = 0, option;
    struct rlimit files;

    while ((option = getopt(argc, argv, "c:d:n:r:tsfu:w:a:h:i")) != -1)
        switch (option) {
        case 'c': options.count = atoi(optarg); break;
        case 'd': options.seconds = atof(optarg); break;
        case 'n': options.requests = atoll(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 't': options.tls = 1; break;
        case 's': options.resume = 1; break;
        case 'f': options.fresh = 1; break;
        case 'u': options.upload = atoll(optarg); break;
        case 'w': options.message = atoi(optarg); break;
        case 'a': options.addresses = atoi(optarg); break;
        case 'h': if (count < 64) fields[count++] = optarg; break;
        case 'i': options.idle = 1; break;
        default: return 2;
        }
    if (argc - optind != 2 || options.message > MAX_MESSAGE || options.count < 1 || options.addresses < 1)
        return 2;
    options.port = atoi(argv[optind]);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1);        /* requests are due to the microsecond */
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    make_request(argv[optind + 1], fields, count);
    if (options.tls)
        make_context();
    poll_fd = epoll_create1(0);
    connections = calloc(options.count, sizeof *connections);
    for (int i = 0; i < options.count; i++) {
        connections[i].fd = -1;
        put_free(&connections[i]);
    }

    /* Connections come apart: no queue of them overflows, and idle ones leave no crowd of connections to servers. */
    run(options.count, 0, options.idle ? 200000 : 50000);
    if (failed) {
        fprintf(stderr, "%lld errors in the warm-up\n", (long long)failed);
        return 1;
    }
    printf("ready\n");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        return 0;
    if (options.idle) {
        while (fgets(line, sizeof line, stdin))
            ;
        return 0;
    }

    memset(histogram, 0, sizeof histogram);
    longest = unasked = connects = handshakes = resumed = 0;
    sum = 0;
    double interval = options.rate > 0 ? 1e9 / options.rate : 0;
    double seconds = run(options.requests, now_ns() + (int64_t)(options.seconds * 1e9), interval);
    printf("{\"requests\": %lld, \"seconds\": %.6f, \"errors\": %lld, \"connects\": %lld, \"handshakes\": %lld, "
           "\"resumed\": %lld, \"mean\": %.2f, \"p50\": %.2f, \"p90\": %.2f, \"p99\": %.2f, \"p999\": %.2f, "
           "\"longest\": %.2f}\n",
           (long long)done, seconds, (long long)(failed + unasked), (long long)connects, (long long)handshakes,
           (long long)resumed, done ? sum / done / 1000 : 0, percentile(0.5), percentile(0.9), percentile(0.99),
           percentile(0.999), longest / 1000.0);
    return 0;
}
