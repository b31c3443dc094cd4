/* The plainest honest echo server in C: what the kernel allows one thread to do.
 *
 * One thread, one level-triggered epoll, one recv of up to 64 KiB and one send per ready connection. It is the
 * ceiling the Python engines are measured against, so it must not cheat: it answers through a write buffer when
 * the kernel's is full, stops reading from a peer that does not read, and closes when the peer closes.
 *
 * It is also the far side of the connectTCP benchmark: it accepts, and closes when the client closes. For that
 * it can listen on several loopback addresses at once, on the same port number.
 * Why: every closed client connection keeps its address pair for a minute (TIME_WAIT); several server addresses
 * give the client several times the ports, so that no engine is measured while the kernel searches for one.
 *
 * Usage: echo_server [ADDRESSES]      listens on 127.0.0.1 … 127.0.0.ADDRESSES, prints "port N"
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 65536, BATCH = 512, ACCEPTS_PER_TURN = 64 };

struct connection {
    int fd;
    int listens;
    char *pending; /* what the kernel did not take; NULL almost always */
    size_t length, sent;
};

static char chunk[CHUNK];
static int poller;

static void fail(const char *what) {
    fprintf(stderr, "echo_server: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void watch(int operation, struct connection *c, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) < 0) fail("epoll_ctl");
}

static void end(struct connection *c) {
    close(c->fd);
    free(c->pending);
    free(c);
}

static void accept_some(struct connection *listener) {
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR) return;
            fail("accept4");
        }
        struct connection *c = calloc(1, sizeof *c);
        if (!c) fail("calloc");
        c->fd = fd;
        int yes = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        watch(EPOLL_CTL_ADD, c, EPOLLIN);
    }
}

static void echo(struct connection *c) {
    ssize_t got = recv(c->fd, chunk, CHUNK, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        end(c);
        return;
    }
    ssize_t put = send(c->fd, chunk, (size_t)got, MSG_NOSIGNAL);
    if (put == got) return;
    if (put < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            end(c);
            return;
        }
        put = 0;
    }
    c->length = (size_t)(got - put);
    c->sent = 0;
    c->pending = malloc(c->length);
    if (!c->pending) fail("malloc");
    memcpy(c->pending, chunk + put, c->length);
    watch(EPOLL_CTL_MOD, c, EPOLLOUT); /* and no more reading until it is gone */
}

static void flush(struct connection *c) {
    ssize_t put = send(c->fd, c->pending + c->sent, c->length - c->sent, MSG_NOSIGNAL);
    if (put < 0) {
        if (errno != EAGAIN && errno != EINTR) end(c);
        return;
    }
    c->sent += (size_t)put;
    if (c->sent < c->length) return;
    free(c->pending);
    c->pending = NULL;
    watch(EPOLL_CTL_MOD, c, EPOLLIN);
}

static int listen_on(uint32_t address, int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    name.sin_addr.s_addr = htonl(address);
    if (bind(fd, (struct sockaddr *)&name, sizeof name) < 0) fail("bind");
    if (listen(fd, 1024) < 0) fail("listen");
    socklen_t length = sizeof name;
    getsockname(fd, (struct sockaddr *)&name, &length);
    struct connection *c = calloc(1, sizeof *c);
    if (!c) fail("calloc");
    c->fd = fd;
    c->listens = 1;
    watch(EPOLL_CTL_ADD, c, EPOLLIN);
    return ntohs(name.sin_port);
}

int main(int argc, char **argv) {
    int addresses = argc > 1 ? atoi(argv[1]) : 1;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) fail("epoll_create1");
    int port = 0;
    for (int i = 0; i < addresses; i++) port = listen_on(INADDR_LOOPBACK + (uint32_t)i, port);
    printf("port %d\n", port);
    fflush(stdout);

    static struct epoll_event events[BATCH];
    for (;;) {
        int ready = epoll_wait(poller, events, BATCH, -1);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->listens) accept_some(c);
            else if (c->pending) flush(c);
            else echo(c);
        }
    }
}
