/* The load: one thread, one epoll, written so that the server under test is the slower of the two.
 *
 * Usage: loader MODE name=value …      (one JSON object on stdout; exit status 1 and a reason on stderr if not)
 *
 *   echo    port connections size seconds warmup pid
 *           N connections with one message in flight each. Every message carries its own stamp (connection and
 *           serial number) and every byte that comes back is compared. Reports messages/s, latencies, and how
 *           many messages the worst-served connection got: an engine may be fast on average and starve some.
 *   churn   port concurrency seconds warmup pid
 *           connect, send 64 bytes, read them back, close; then the same again from the same slot.
 *   upload  port bytes pid        sends that much to a server that answers with 8 bytes when it has it all
 *   download port bytes pid       reads that much from a server that starts sending when it is connected
 *   hold    port connections      opens them, proves each with one echoed byte, says so, holds until stdin closes
 *
 * Why pid: the server's CPU clock is read here, exactly where the measured window begins and ends, and not by
 * a harness in another process a few milliseconds off.
 * Why after the window nothing new is sent but what is under way is waited for: a connection that was starved
 * through the whole window would otherwise leave no latency at all, and make the figures better.
 * Rejected: many threads, or several messages in flight: they measure how well a server batches, not what one
 * message costs. What pipelining brings is measured by redis-benchmark.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum { CHUNK = 262144, BATCH = 512, GROUP = 256, CHURN_SIZE = 64, DRAIN_SECONDS = 5 };
static const int64_t SECOND = 1000000000;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("loader: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void must(int result, const char *what) {
    if (result < 0) fail("%s: %s", what, strerror(errno));
}

/* ---- what was asked for ---- */

static int port, connections = 100, size = 1024, pid;
static double seconds = 1.0, warmup = 0.2;
static int64_t bytes = 1 << 30;

static void read_arguments(int argc, char **argv) {
    for (int i = 2; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value) fail("not name=value: %s", argv[i]);
        *value++ = 0;
        if (!strcmp(argv[i], "port")) port = atoi(value);
        else if (!strcmp(argv[i], "connections")) connections = atoi(value);
        else if (!strcmp(argv[i], "size")) size = atoi(value);
        else if (!strcmp(argv[i], "pid")) pid = atoi(value);
        else if (!strcmp(argv[i], "seconds")) seconds = atof(value);
        else if (!strcmp(argv[i], "warmup")) warmup = atof(value);
        else if (!strcmp(argv[i], "bytes")) bytes = atoll(value);
        else fail("unknown: %s", argv[i]);
    }
    if (port <= 0 || connections <= 0 || size < 8 || size > CHUNK) fail("port, connections or size out of range");
}

/* ---- clocks ---- */

static int64_t clock_ns(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t) < 0) return 0;
    return t.tv_sec * SECOND + t.tv_nsec;
}

static int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* Source: Linux, include/linux/posix-timers.h: another process's CPU clock is its inverted id, shifted, with the
 * low bits 2 (scheduler time: user and system, all threads, in nanoseconds). */
static int64_t server_cpu_ns(void) { return pid ? clock_ns((clockid_t)((~(unsigned)pid << 3) | 2)) : 0; }

struct reading {
    int64_t wall, server, own;
};

static struct reading read_clocks(void) {
    return (struct reading){now_ns(), server_cpu_ns(), clock_ns(CLOCK_PROCESS_CPUTIME_ID)};
}

static void print_cost(struct reading a, struct reading b, int64_t units) {
    double wall = (double)(b.wall - a.wall) / 1e9, server = (double)(b.server - a.server) / 1e9;
    double own = (double)(b.own - a.own) / 1e9;
    printf("\"count\": %lld, \"seconds\": %.6f, \"rate\": %.1f, \"server_cpu\": %.6f, \"cpu_us\": %.4f, "
           "\"server_busy\": %.4f, \"loader_busy\": %.4f",
           (long long)units, wall, (double)units / wall, server, units ? server * 1e6 / (double)units : 0.0,
           server / wall, own / wall);
}

/* ---- latencies: a histogram with 64 steps per power of two (1.6 % wide), in nanoseconds ---- */

static int64_t histogram[64 * 64], measured, slowest;

static int step_of(int64_t ns) {
    if (ns < 64) return (int)(ns < 0 ? 0 : ns);
    int power = 63 - __builtin_clzll((unsigned long long)ns);
    return (power - 5) * 64 + (int)((ns >> (power - 6)) & 63);
}

static double upper_edge(int step) {
    if (step < 64) return step + 1;
    return (double)((int64_t)(64 + (step & 63) + 1) << (step / 64 - 1));
}

static void record(int64_t ns) {
    histogram[step_of(ns)]++;
    measured++;
    if (ns > slowest) slowest = ns;
}

static double percentile_us(double share) {
    int64_t wanted = (int64_t)(share * (double)measured), seen = 0;
    for (int i = 0; i < 64 * 64; i++) {
        seen += histogram[i];
        if (seen > wanted) {
            double edge = upper_edge(i);
            return (edge < (double)slowest ? edge : (double)slowest) / 1e3;
        }
    }
    return (double)slowest / 1e3;
}

static void print_latencies(void) {
    printf(", \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f", percentile_us(0.5),
           percentile_us(0.99), percentile_us(0.999), (double)slowest / 1e3);
}

/* ---- connections ---- */

struct connection {
    int fd;
    int got, sent;    /* of the message in flight */
    int blocked;      /* the kernel did not take it whole: EPOLLOUT is watched */
    uint32_t number, serial;
    int64_t started;  /* when the message in flight was sent; 0: none is */
    int64_t count;    /* messages that came back within the window */
};

static struct connection *all;
static int poller;
static unsigned char pattern[CHUNK], outgoing[CHUNK], incoming[CHUNK];

static int open_socket(int flags) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    must(fd, "socket");
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return fd;
}

static struct sockaddr_in server_name(void) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return name;
}

static int connect_blocking(void) {
    int fd = open_socket(0);
    struct timeval limit = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    struct sockaddr_in name = server_name();
    must(connect(fd, (struct sockaddr *)&name, sizeof name), "connect");
    return fd;
}

static void watch(int operation, struct connection *c, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    must(epoll_ctl(poller, operation, c->fd, &event), "epoll_ctl");
}

/* Opens them a group at a time, and has each of the group echo one byte before the next group is opened.
 * Why: then each is known to be accepted and built, and no server's accept queue ever overflows. */
static void open_all(void) {
    all = calloc((size_t)connections, sizeof *all);
    if (!all) fail("out of memory");
    for (int first = 0; first < connections; first += GROUP) {
        int last = first + GROUP < connections ? first + GROUP : connections;
        for (int i = first; i < last; i++) {
            all[i].number = (uint32_t)i;
            all[i].fd = connect_blocking();
            must((int)send(all[i].fd, "!", 1, MSG_NOSIGNAL), "send");
        }
        for (int i = first; i < last; i++) {
            char byte = 0;
            if (recv(all[i].fd, &byte, 1, 0) != 1 || byte != '!') fail("connection %d did not echo a byte", i);
        }
    }
}

/* Why a reset: thousands of connections in TIME_WAIT would slow down whoever is measured next. */
static void drop(int fd) {
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}

static void drop_all(void) {
    for (int i = 0; i < connections; i++) drop(all[i].fd);
}

/* ---- echo ---- */

static void stamp(struct connection *c, unsigned char *target) {
    memcpy(target, &c->number, 4);
    memcpy(target + 4, &c->serial, 4);
}

static void send_more(struct connection *c) {
    stamp(c, outgoing);
    ssize_t put = send(c->fd, outgoing + c->sent, (size_t)(size - c->sent), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0) {
        if (errno != EAGAIN) fail("send: %s", strerror(errno));
        put = 0;
    }
    c->sent += (int)put;
    if ((c->sent < size) == c->blocked) return;
    c->blocked = c->sent < size;
    watch(EPOLL_CTL_MOD, c, c->blocked ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void send_message(struct connection *c, int64_t now) {
    c->serial++;
    c->got = c->sent = 0;
    c->started = now;
    send_more(c);
}

/* Returns 1 when the whole message is back, and right. */
static int receive(struct connection *c) {
    ssize_t got = recv(c->fd, incoming, (size_t)(size - c->got), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got <= 0) fail("connection %u was closed by the server (%s)", c->number, got ? strerror(errno) : "end");
    unsigned char head[8];
    stamp(c, head);
    int at = c->got, end = c->got + (int)got;
    for (; at < 8 && at < end; at++)
        if (incoming[at - c->got] != head[at]) fail("connection %u: a wrong message came back", c->number);
    if (at < end && memcmp(incoming + (at - c->got), pattern + at, (size_t)(end - at)))
        fail("connection %u: bytes came back changed", c->number);
    c->got = end;
    return c->got == size;
}

/* Runs until the clock says `until`, or, when draining, until nothing is under way. Returns messages done. */
static int64_t exchange(int64_t until, int measuring, int draining, int *under_way) {
    static struct epoll_event events[BATCH];
    int64_t done = 0;
    for (;;) {
        int64_t now = now_ns();
        if (now >= until || (draining && *under_way == 0)) return done;
        int ready = epoll_wait(poller, events, BATCH, (int)((until - now) / 1000000) + 1);
        if (ready < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if ((events[i].events & EPOLLOUT) && c->sent < size) send_more(c);
            if (!(events[i].events & ~(unsigned)EPOLLOUT) || !receive(c)) continue;
            now = now_ns();
            if (measuring) record(now - c->started);
            if (draining) {
                c->started = 0;
                --*under_way;
                continue;
            }
            done++;
            c->count++;
            send_message(c, now);
        }
    }
}

static void run_echo(void) {
    open_all();
    for (int i = 0; i < connections; i++) watch(EPOLL_CTL_ADD, &all[i], EPOLLIN);
    for (int i = 0; i < connections; i++) send_message(&all[i], now_ns());
    int under_way = connections;
    exchange(now_ns() + (int64_t)(warmup * 1e9), 0, 0, &under_way);
    for (int i = 0; i < connections; i++) all[i].count = 0;

    struct reading before = read_clocks();
    int64_t done = exchange(before.wall + (int64_t)(seconds * 1e9), 1, 0, &under_way);
    struct reading after = read_clocks();
    exchange(now_ns() + DRAIN_SECONDS * SECOND, 1, 1, &under_way);
    for (int i = 0; i < connections; i++)
        if (all[i].started) record(now_ns() - all[i].started);

    int64_t least = done, most = 0;
    for (int i = 0; i < connections; i++) {
        if (all[i].count < least) least = all[i].count;
        if (all[i].count > most) most = all[i].count;
    }
    drop_all();
    printf("{");
    print_cost(before, after, done);
    print_latencies();
    printf(", \"least\": %lld, \"most\": %lld, \"unanswered\": %d}\n", (long long)least, (long long)most, under_way);
}

/* ---- churn ---- */

/* Each slot has its own source address, 127.1.x.y. Why: a closed connection keeps its pair of addresses for a
 * minute; with one source address the 28 000 ports would be gone within seconds. Both sides close with FIN, as
 * real clients do: a reset would take the servers' error path. */
static void open_churning(struct connection *c) {
    int fd = open_socket(SOCK_NONBLOCK);
    int yes = 1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(0x7f010001u + c->number);
    must(bind(fd, (struct sockaddr *)&source, sizeof source), "bind");
    struct sockaddr_in name = server_name();
    if (connect(fd, (struct sockaddr *)&name, sizeof name) < 0 && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    c->fd = fd;
    c->serial++;
    c->got = c->sent = c->blocked = 0;
    c->started = now_ns();
    /* On loopback the handshake is over when connect returns, so the bytes can go at once. */
    watch(EPOLL_CTL_ADD, c, EPOLLIN);
    send_more(c);
}

static int64_t churn(int64_t until, int measuring) {
    static struct epoll_event events[BATCH];
    int64_t done = 0;
    for (;;) {
        int64_t now = now_ns();
        if (now >= until) return done;
        int ready = epoll_wait(poller, events, BATCH, (int)((until - now) / 1000000) + 1);
        if (ready < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if ((events[i].events & EPOLLOUT) && c->sent < size) send_more(c);
            if (!(events[i].events & ~(unsigned)EPOLLOUT) || !receive(c)) continue;
            close(c->fd);
            if (measuring) record(now_ns() - c->started);
            c->count++;
            done++;
            open_churning(c);
        }
    }
}

static void run_churn(void) {
    size = CHURN_SIZE;
    all = calloc((size_t)connections, sizeof *all);
    if (!all) fail("out of memory");
    for (int i = 0; i < connections; i++) {
        all[i].number = (uint32_t)i;
        open_churning(&all[i]);
    }
    churn(now_ns() + (int64_t)(warmup * 1e9), 0);
    struct reading before = read_clocks();
    int64_t done = churn(before.wall + (int64_t)(seconds * 1e9), 1);
    struct reading after = read_clocks();
    drop_all();
    printf("{");
    print_cost(before, after, done);
    print_latencies();
    printf("}\n");
}

/* ---- bulk ---- */

static void run_upload(void) {
    int fd = connect_blocking();
    struct reading before = read_clocks();
    for (int64_t left = bytes; left > 0;) {
        ssize_t put = send(fd, pattern, left < CHUNK ? (size_t)left : CHUNK, MSG_NOSIGNAL);
        if (put <= 0) fail("send: %s", strerror(errno));
        left -= put;
    }
    char answer[8];
    if (recv(fd, answer, 8, MSG_WAITALL) != 8 || memcmp(answer, "received", 8)) fail("no receipt for the upload");
    struct reading after = read_clocks();
    drop(fd);
    printf("{");
    print_cost(before, after, bytes);
    printf("}\n");
}

static void run_download(void) {
    struct reading before = read_clocks();
    int fd = connect_blocking();
    for (int64_t got = 0; got < bytes;) {
        ssize_t more = recv(fd, incoming, CHUNK, 0);
        if (more <= 0) fail("recv: %s after %lld bytes", more ? strerror(errno) : "end", (long long)got);
        /* Cheap and telling: the first and the last byte of each read are where they belong in the stream. */
        if (incoming[0] != (unsigned char)got || incoming[more - 1] != (unsigned char)(got + more - 1))
            fail("wrong bytes at %lld", (long long)got);
        got += more;
        if (got > bytes) fail("more bytes than agreed");
    }
    struct reading after = read_clocks();
    drop(fd);
    printf("{");
    print_cost(before, after, bytes);
    printf("}\n");
}

static void run_hold(void) {
    open_all();
    printf("{\"held\": %d}\n", connections);
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) > 0) {
    }
    drop_all();
}

int main(int argc, char **argv) {
    if (argc < 3) fail("usage: loader MODE name=value …");
    read_arguments(argc, argv);
    struct rlimit limit;
    must(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
    if (limit.rlim_cur < (rlim_t)connections + 32) fail("only %lu descriptors allowed", (unsigned long)limit.rlim_cur);
    for (int i = 0; i < CHUNK; i++) pattern[i] = outgoing[i] = (unsigned char)i;
    must(poller = epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    if (!strcmp(argv[1], "echo")) run_echo();
    else if (!strcmp(argv[1], "churn")) run_churn();
    else if (!strcmp(argv[1], "upload")) run_upload();
    else if (!strcmp(argv[1], "download")) run_download();
    else if (!strcmp(argv[1], "hold")) run_hold();
    else fail("unknown mode %s", argv[1]);
    return 0;
}
