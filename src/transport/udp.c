#include "transport/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/diag.h"

#define TIMER_ACCURACY_US 50 /* batches wait for less than a millisecond */
#define BURST 64                  /* datagrams in one recvmmsg or sendmmsg */
#define RUNS_MAX 4                /* batches in one wake-up: the control socket wants its turn too */
#define DATAGRAM_SIZE_MAX 9216    /* a jumbo frame; CoAP itself asks for 1152 (RFC 7252 §4.6) */
#define KERNEL_BUFFER (4 << 20)   /* bytes that wait in the kernel while a batch is committed; best effort */
#define SOCKETS_MAX (4 * CONFIG_LISTEN_MAX)

/* Room for the one control message we ask for and give: which of our addresses. */
union control {
        struct cmsghdr align;
        uint8_t space[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

struct door_socket {
        struct udp *udp;
        unsigned index;
        int fd;
        enum door door;
        struct address address;
        sd_event_source *source;
};

struct udp {
        struct engine *engine;
        sd_event_source *timer;
        struct door_socket sockets[SOCKETS_MAX];
        unsigned n_sockets;
        bool waiting; /* requests wait for the next batch */
        struct udp_figures figures;

        struct mmsghdr messages[BURST];
        struct iovec vectors[BURST];
        struct address remotes[BURST];
        union control controls[BURST];
        uint8_t (*data)[DATAGRAM_SIZE_MAX]; /* BURST of them */
};

DEFINE_FREEP(struct udp, udp_free)

static struct engine_time now(void) {
        return (struct engine_time){ .monotonic_us = clock_monotonic_us(), .wall_s = clock_wall_s() };
}

/* ---- out */

/* The answer leaves from the address that was asked: a client behind a wildcard bind would not know another. */
static void prepare_source(const struct address *remote, union control *control, struct msghdr *header) {
        struct in6_pktinfo info6 = {};
        struct in_pktinfo info = {};
        struct cmsghdr *cmsg;

        header->msg_control = NULL;
        header->msg_controllen = 0;
        memset(control, 0, sizeof(*control));
        if (remote->any.sa_family == AF_INET && remote->local.in.s_addr != INADDR_ANY) {
                info.ipi_spec_dst = remote->local.in;
                header->msg_control = control;
                header->msg_controllen = CMSG_SPACE(sizeof(info));
                cmsg = CMSG_FIRSTHDR(header);
                *cmsg = (struct cmsghdr){ CMSG_LEN(sizeof(info)), IPPROTO_IP, IP_PKTINFO };
                memcpy(CMSG_DATA(cmsg), &info, sizeof(info));
        } else if (remote->any.sa_family == AF_INET6 && !IN6_IS_ADDR_UNSPECIFIED(&remote->local.in6)) {
                info6.ipi6_addr = remote->local.in6;
                header->msg_control = control;
                header->msg_controllen = CMSG_SPACE(sizeof(info6));
                cmsg = CMSG_FIRSTHDR(header);
                *cmsg = (struct cmsghdr){ CMSG_LEN(sizeof(info6)), IPPROTO_IPV6, IPV6_PKTINFO };
                memcpy(CMSG_DATA(cmsg), &info6, sizeof(info6));
        }
}

static void prepare_out(struct udp *udp, unsigned slot, const struct datagram *datagram) {
        struct msghdr *header = &udp->messages[slot].msg_hdr;

        udp->vectors[slot] = (struct iovec){ (void *)datagram->data.data, datagram->data.size };
        udp->remotes[slot] = datagram->remote;
        *header = (struct msghdr){ .msg_name = &udp->remotes[slot].any, .msg_namelen = datagram->remote.size,
                                   .msg_iov = &udp->vectors[slot], .msg_iovlen = 1 };
        prepare_source(&datagram->remote, &udp->controls[slot], header);
}

/*
 * Send n prepared datagrams. One that the kernel refuses is dropped as a network would: the peer asks again. Each turn
 * of the loop is done with at least one datagram, but for an interruption, and for one error about an earlier datagram
 * (ECONNREFUSED) that the socket reported in the place of an answer.
 */
static void send_prepared(struct udp *udp, int fd, unsigned n) {
        bool again = true;
        unsigned at = 0;
        int r;

        while (at < n) {
                r = sendmmsg(fd, udp->messages + at, n - at, MSG_DONTWAIT);
                if (r > 0) {
                        at += (unsigned)r;
                        again = true;
                } else if (errno == EAGAIN || errno == ENOBUFS) {
                        udp->figures.n_unsent += n - at;
                        return;
                } else if (errno == ECONNREFUSED && again) {
                        again = false;
                } else if (errno != EINTR) {
                        udp->figures.n_unsent++;
                        at++;
                        again = true;
                }
        }
}

static void flush(struct udp *udp) {
        const struct datagram *output;
        size_t n = engine_output(udp->engine, &output), at = 0;
        unsigned door_socket, slot;

        while (at < n) {
                door_socket = output[at].socket;
                for (slot = 0; slot < BURST && at < n && output[at].socket == door_socket; slot++, at++)
                        prepare_out(udp, slot, &output[at]);
                if (door_socket < udp->n_sockets)
                        send_prepared(udp, udp->sockets[door_socket].fd, slot);
                else
                        udp->figures.n_unsent += slot;
        }
        engine_sent(udp->engine);
}

/* Run what waits, at most runs_max batches of it. */
static void run(struct udp *udp, unsigned runs_max) {
        do {
                udp->waiting = engine_run(udp->engine, now());
                flush(udp);
        } while (udp->waiting && --runs_max > 0);
}

/* ---- in */

static void prepare_in(struct udp *udp) {
        for (unsigned slot = 0; slot < BURST; slot++) {
                udp->vectors[slot] = (struct iovec){ udp->data[slot], DATAGRAM_SIZE_MAX };
                udp->messages[slot].msg_hdr = (struct msghdr){
                        .msg_name = &udp->remotes[slot].any, .msg_namelen = sizeof(struct sockaddr_in6),
                        .msg_iov = &udp->vectors[slot], .msg_iovlen = 1,
                        .msg_control = &udp->controls[slot], .msg_controllen = sizeof(udp->controls[slot]),
                };
        }
}

static void take_local(struct msghdr *header, struct address *remote) {
        struct in6_pktinfo info6;
        struct in_pktinfo info;

        memset(&remote->local, 0, sizeof(remote->local));
        for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(header); cmsg; cmsg = CMSG_NXTHDR(header, cmsg)) {
                if (cmsg->cmsg_level == IPPROTO_IP && cmsg->cmsg_type == IP_PKTINFO) {
                        memcpy(&info, CMSG_DATA(cmsg), sizeof(info));
                        remote->local.in = info.ipi_spec_dst;
                } else if (cmsg->cmsg_level == IPPROTO_IPV6 && cmsg->cmsg_type == IPV6_PKTINFO) {
                        memcpy(&info6, CMSG_DATA(cmsg), sizeof(info6));
                        if (!IN6_IS_ADDR_MULTICAST(&info6.ipi6_addr))
                                remote->local.in6 = info6.ipi6_addr;
                }
        }
}

static void take_in(struct door_socket *from, unsigned slot) {
        struct udp *udp = from->udp;
        struct msghdr *header = &udp->messages[slot].msg_hdr;
        struct address *remote = &udp->remotes[slot];

        if (header->msg_flags & MSG_TRUNC) {
                udp->figures.n_truncated++;
                return;
        }
        remote->size = header->msg_namelen;
        take_local(header, remote);
        engine_input(udp->engine,
                     &(struct datagram){ .door = from->door, .socket = from->index, .remote = *remote,
                                         .data = { udp->data[slot], udp->messages[slot].msg_len } },
                     now());
}

/* One burst, then its batches. What is still in the kernel makes the loop come back after the other sources' turns. */
static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        struct door_socket *from = userdata;
        int n;

        prepare_in(from->udp);
        n = recvmmsg(fd, from->udp->messages, BURST, MSG_DONTWAIT, NULL);
        for (int slot = 0; slot < n; slot++)
                take_in(from, (unsigned)slot);
        /* n < 0: nothing there after all, or an ICMP error about something sent earlier, which reading has cleared */
        if (n > 0)
                run(from->udp, RUNS_MAX);
        return 0;
}

/* ---- timers */

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        run(userdata, RUNS_MAX);
        return 0;
}

/* Before each wait: whoever changed the engine since (the control socket, a reload), the timer is right. */
static int on_prepare(sd_event_source *source, void *userdata) {
        struct udp *udp = userdata;
        int64_t due_us = udp->waiting ? 0 : engine_due(udp->engine), left_us;

        if (due_us == INT64_MAX)
                return sd_event_source_set_time(source, UINT64_MAX);
        left_us = due_us - clock_monotonic_us();
        return sd_event_source_set_time_relative(source, left_us > 0 ? (uint64_t)left_us : 0);
}

static int timer_open(struct udp *udp, struct sd_event *loop) {
        int r = sd_event_add_time(loop, &udp->timer, CLOCK_MONOTONIC, UINT64_MAX, TIMER_ACCURACY_US, on_timer, udp);

        if (r < 0)
                return r;
        r = sd_event_source_set_prepare(udp->timer, on_prepare);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(udp->timer, SD_EVENT_ON);
}

/* ---- opening */

static int options_set(int fd, int family) {
        int on = 1, size = KERNEL_BUFFER;

        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        if (family == AF_INET)
                return setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
        if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
                return -1;
        return setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
}

/* No SO_REUSEADDR: a second daemon on the same port must fail. 0 or -errno. */
static int socket_open(const struct address *address, int *ret_fd, struct address *ret_bound) {
        _cleanup_(closep) int fd = -1;
        struct address bound = { .size = sizeof(struct sockaddr_in6) };

        fd = socket(address->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || options_set(fd, address->any.sa_family) < 0 || bind(fd, &address->any, address->size) < 0 ||
            getsockname(fd, &bound.any, &bound.size) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        *ret_bound = bound;
        return 0;
}

static const char *advice(int error) {
        return error == EADDRINUSE    ? ": is another aced running there?" :
               error == EADDRNOTAVAIL ? ": no interface of this machine has that address" :
               error == EACCES        ? ": ports under 1024 need a capability that aced does not have" : "";
}

static int open_one(struct udp *udp, struct sd_event *loop, enum door door, const struct address *address) {
        struct door_socket *door_socket = &udp->sockets[udp->n_sockets];
        int r = socket_open(address, &door_socket->fd, &door_socket->address);

        if (r < 0)
                return r;
        door_socket->udp = udp;
        door_socket->index = udp->n_sockets++;
        door_socket->door = door;
        return sd_event_add_io(loop, &door_socket->source, door_socket->fd, EPOLLIN, on_readable, door_socket);
}

/* "*:PORT" means IPv6 too, at the same port, where the machine has it. */
static int open_twin(struct udp *udp, struct sd_event *loop, enum door door) {
        struct address twin = { .in6 = { .sin6_family = AF_INET6, .sin6_addr = in6addr_any },
                                .size = sizeof(struct sockaddr_in6) };
        int r;

        twin.in6.sin6_port = udp->sockets[udp->n_sockets - 1].address.in.sin_port;
        r = open_one(udp, loop, door, &twin);
        return r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL ? 0 : r;
}

/* 0, -ENOMEM; a fault is a row of *diags. */
static int open_listed(struct udp *udp, struct sd_event *loop, enum door door, const char *text, struct diags *diags) {
        struct address address;
        int r;

        if (address_parse(text, &address) != 0)
                return diags_add(diags, NULL, 0,
                                 "[%s] listen: '%s' is no address: write HOST:PORT, [V6]:PORT or *:PORT, in numbers",
                                 door_name(door), text);
        r = open_one(udp, loop, door, &address);
        if (r == 0 && (text[0] == '*' || text[0] == ':'))
                r = open_twin(udp, loop, door);
        if (r < 0)
                return diags_add(diags, NULL, 0, "[%s] listen: %s: %s%s", door_name(door), text, strerror(-r),
                                 advice(-r));
        return 0;
}

static int open_all(struct udp *udp, struct sd_event *loop, const struct config *config, struct diags *diags) {
        size_t n_before = diags->n_items;
        int r = 0;

        for (unsigned n = 0; n < config->n_coap_listen && r == 0; n++)
                r = open_listed(udp, loop, DOOR_COAP, config->coap_listen[n].text, diags);
        for (unsigned n = 0; n < config->n_coaps_listen && r == 0; n++)
                r = open_listed(udp, loop, DOOR_COAPS, config->coaps_listen[n].text, diags);
        if (r < 0)
                return r;
        return diags->n_items > n_before ? -EINVAL : 0;
}

int udp_new(struct sd_event *loop, struct engine *engine, const struct config *config, struct udp **ret,
            struct diags *diags) {
        _cleanup_(udp_freep) struct udp *udp = calloc(1, sizeof(*udp));
        int r;

        if (!udp)
                return -ENOMEM;
        udp->engine = engine;
        for (unsigned n = 0; n < SOCKETS_MAX; n++)
                udp->sockets[n].fd = -1;
        udp->data = calloc(BURST, sizeof(*udp->data));
        if (!udp->data)
                return -ENOMEM;
        r = open_all(udp, loop, config, diags);
        if (r < 0)
                return r;
        r = timer_open(udp, loop);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(udp);
        return 0;
}

void udp_free(struct udp *udp) {
        if (!udp)
                return;
        sd_event_source_disable_unref(udp->timer);
        for (unsigned n = 0; n < SOCKETS_MAX; n++) {
                sd_event_source_disable_unref(udp->sockets[n].source);
                closep(&udp->sockets[n].fd);
        }
        free(udp->data);
        free(udp);
}

bool udp_bound(const struct udp *udp, unsigned n, enum door *ret_door, struct address *ret) {
        if (n >= udp->n_sockets)
                return false;
        *ret_door = udp->sockets[n].door;
        *ret = udp->sockets[n].address;
        return true;
}

void udp_drain(struct udp *udp) {
        for (unsigned n = 0; n < udp->n_sockets; n++)
                (void)sd_event_source_set_enabled(udp->sockets[n].source, SD_EVENT_OFF);
        (void)sd_event_source_set_enabled(udp->timer, SD_EVENT_OFF);
        engine_hurry(udp->engine);
        /* limits.pending_max bounds this: nothing new comes in */
        do
                run(udp, 1);
        while (udp->waiting);
        engine_close(udp->engine, now());
        flush(udp);
}

void udp_figures(const struct udp *udp, struct udp_figures *ret) {
        *ret = udp->figures;
}
