/*
 * flood [-n N] [-r RATE] [-s SEED] MODE HOST:PORT: what strangers throw at a server, from many addresses of 127/8.
 *
 *   hello    ClientHellos without a cookie, each from another address; what is answered is not read
 *   half     the same, the cookie that is asked for returned once; then silence
 *   garbage  datagrams of every size: random bytes; records, handshakes and CoAP messages cut off, forged or bent
 *
 * Prints one JSON object. The addresses are really there (all of 127/8 is), so it is no privilege to send from them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"

#define SOCKETS 16                     /* source ports */
#define BURST 32                       /* datagrams in one system call */
#define DATAGRAM_SIZE_MAX 65507        /* all that UDP over IPv4 carries */
#define SIZE_USUAL_MAX 1500
#define QUIET_US INT64_C(500000)       /* without an answer for so long: no more will come */
#define COOKIE_SIZE_MAX 32             /* GnuTLS' and OpenSSL's fit */
#define RANDOM_SIZE 32

struct slot {
        struct sockaddr_in from;       /* which of our addresses */
        uint8_t control[CMSG_SPACE(sizeof(struct in_pktinfo))];
        struct iovec vector;
        uint8_t data[DATAGRAM_SIZE_MAX];
};

struct flood {
        const char *mode;
        uint64_t n, seed;
        double rate;                   /* datagrams a second; 0: as fast as it goes */
        struct sockaddr_in server;
        int fds[SOCKETS];

        uint64_t state;                /* of the generator */
        uint64_t n_sent, n_unsent, n_cookies;
        int64_t begin_us, end_us, heard_us;
        struct mmsghdr messages[BURST];
        struct slot *slots;            /* BURST of them */
};

/* ---- numbers that look like chance and come again with the seed (SplitMix64) */

static uint64_t mix(uint64_t x) {
        x += UINT64_C(0x9e3779b97f4a7c15);
        x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
        return x ^ x >> 31;
}

static uint64_t next(struct flood *flood) {
        flood->state++;
        return mix(flood->seed ^ mix(flood->state));
}

static size_t below(struct flood *flood, size_t bound) {
        return (size_t)(next(flood) % bound);
}

static void fill(struct flood *flood, uint8_t *data, size_t size) {
        for (size_t at = 0; at < size; at++)
                data[at] = (uint8_t)next(flood);
}

/* ---- what is sent */

static uint8_t *put(uint8_t *at, uint64_t value, unsigned size) {
        while (size-- > 0)
                *at++ = (uint8_t)(value >> 8 * size);
        return at;
}

/*
 * A ClientHello (RFC 6347 §4.2.1) as a device with a PSK sends it. Its random is made of the address that it comes
 * from: so the second one, with the cookie, needs no memory of the first. Returns its size.
 */
static size_t hello(const struct flood *flood, struct in_addr from, const uint8_t *cookie, size_t cookie_size,
                    uint8_t *data) {
        const uint8_t extended_master_secret[] = { 0, 23, 0, 0 };
        uint8_t *at = data + 13 + 12;

        at = put(at, 0xfefd, 2);
        for (unsigned i = 0; i < RANDOM_SIZE / 8; i++)
                at = put(at, mix(flood->seed ^ mix((uint64_t)from.s_addr << 8 | i)), 8);
        at = put(at, 0, 1);                      /* no session to resume */
        at = put(at, cookie_size, 1);
        if (cookie_size > 0)
                memcpy(at, cookie, cookie_size);
        at += cookie_size;
        at = put(at, 6, 2);                      /* PSK with AES_128_CCM_8, AES_128_GCM; no renegotiation */
        at = put(at, UINT64_C(0xc0a800a800ff), 6);
        at = put(at, 0x0100, 2);                 /* no compression */
        at = put(at, sizeof(extended_master_secret), 2);
        memcpy(at, extended_master_secret, sizeof(extended_master_secret));
        at += sizeof(extended_master_secret);

        size_t size = (size_t)(at - data), body = size - 13 - 12;
        uint8_t *head = put(data, 22, 1);
        head = put(head, 0xfefd, 2);
        head = put(head, cookie_size > 0, 8);    /* epoch 0; the second record, if it is */
        head = put(head, size - 13, 2);
        head = put(head, 1, 1);
        head = put(head, body, 3);
        head = put(head, cookie_size > 0, 2);
        head = put(head, 0, 3);
        put(head, body, 3);
        return size;
}

static size_t garbage_size(struct flood *flood) {
        return below(flood, below(flood, 64) == 0 ? DATAGRAM_SIZE_MAX + 1 : SIZE_USUAL_MAX + 1);
}

static size_t garbage_random(struct flood *flood, struct in_addr from, uint8_t *data) {
        size_t size = garbage_size(flood);

        fill(flood, data, size);
        return size;
}

/* A record of any type and epoch, now and then of a length that it has not. */
static size_t garbage_record(struct flood *flood, struct in_addr from, uint8_t *data) {
        size_t size = 13 + garbage_size(flood) % (SIZE_USUAL_MAX - 13);
        uint8_t *at = put(data, 19 + below(flood, 8), 1);

        at = put(at, 0xfefd, 2);
        at = put(at, below(flood, 3), 2);
        at = put(at, next(flood), 6);
        at = put(at, below(flood, 4) > 0 ? size - 13 : next(flood), 2);
        fill(flood, at, size - 13);
        return size;
}

/* A ClientHello with a cookie that nobody gave, cut off or with a bit flipped. */
static size_t garbage_hello(struct flood *flood, struct in_addr from, uint8_t *data) {
        uint8_t cookie[COOKIE_SIZE_MAX];
        size_t size, bit;

        fill(flood, cookie, sizeof(cookie));
        size = hello(flood, from, cookie, below(flood, sizeof(cookie) + 1), data);
        if (below(flood, 2) == 0)
                return below(flood, size);
        bit = below(flood, 8 * size);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        return size;
}

/* A CoAP header of any type and code, then whatever. */
static size_t garbage_coap(struct flood *flood, struct in_addr from, uint8_t *data) {
        size_t size = 4 + garbage_size(flood) % SIZE_USUAL_MAX;

        fill(flood, data, size);
        data[0] = (uint8_t)(0x40 | (data[0] & 0x3f));
        if (below(flood, 2) == 0)
                data[1] = (uint8_t)below(flood, 8);
        return size;
}

static size_t garbage(struct flood *flood, struct in_addr from, uint8_t *data) {
        static size_t (*const kinds[])(struct flood *, struct in_addr, uint8_t *) = {
                garbage_random, garbage_record, garbage_hello, garbage_coap,
        };

        return kinds[below(flood, N_ELEMENTS(kinds))](flood, from, data);
}

/* ---- sending */

/* An address of 127/8, but none of 127.0/16, where somebody may be at home. */
static struct in_addr some_address(struct flood *flood) {
        size_t network = 1 + below(flood, 254), host = 1 + below(flood, 65534);

        return (struct in_addr){ htonl((uint32_t)(0x7f000000 | network << 16 | host)) };
}

static void prepare(struct flood *flood, unsigned n, struct in_addr from, size_t size) {
        struct slot *slot = &flood->slots[n];
        struct in_pktinfo info = { .ipi_spec_dst = from };
        struct msghdr *header = &flood->messages[n].msg_hdr;

        slot->vector = (struct iovec){ slot->data, size };
        *header = (struct msghdr){ .msg_name = &flood->server, .msg_namelen = sizeof(flood->server),
                                   .msg_iov = &slot->vector, .msg_iovlen = 1,
                                   .msg_control = slot->control, .msg_controllen = sizeof(slot->control) };
        memset(slot->control, 0, sizeof(slot->control));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(header);
        *cmsg = (struct cmsghdr){ CMSG_LEN(sizeof(info)), IPPROTO_IP, IP_PKTINFO };
        memcpy(CMSG_DATA(cmsg), &info, sizeof(info));
}

static void send_all(struct flood *flood, int fd, unsigned n) {
        for (unsigned at = 0; at < n;) {
                int r = sendmmsg(fd, flood->messages + at, n - at, 0);

                if (r > 0) {
                        flood->n_sent += (unsigned)r;
                        at += (unsigned)r;
                } else if (errno != EINTR) {
                        flood->n_unsent++;
                        at++;
                }
        }
}

/* Wait until the next burst is due. */
static void pace(const struct flood *flood) {
        double n = (double)(flood->n_sent + flood->n_unsent - flood->n_cookies);
        int64_t due_us, left_us;

        if (flood->rate <= 0)
                return;
        due_us = flood->begin_us + (int64_t)(n * 1e6 / flood->rate);
        while ((left_us = due_us - clock_monotonic_us()) > 0)
                usleep((useconds_t)left_us);
}

static void burst(struct flood *flood, int fd, unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                struct in_addr from = some_address(flood);
                uint8_t *data = flood->slots[i].data;

                prepare(flood, i, from, strcmp(flood->mode, "garbage") == 0 ? garbage(flood, from, data)
                                                                            : hello(flood, from, NULL, 0, data));
        }
        send_all(flood, fd, n);
}

/* ---- cookies returned */

/* The cookie of a HelloVerifyRequest (RFC 6347 §4.2.1), empty if it is none. */
static struct bytes cookie_of(struct bytes d) {
        if (d.size < 28 || d.data[0] != 22 || d.data[13] != 3 || d.data[27] > COOKIE_SIZE_MAX ||
            (size_t)28 + d.data[27] > d.size)
                return BYTES_NONE;
        return bytes_of(d.data + 28, d.data[27]);
}

static struct in_addr local_of(struct msghdr *header) {
        struct in_pktinfo info = {};

        for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(header); cmsg; cmsg = CMSG_NXTHDR(header, cmsg))
                if (cmsg->cmsg_level == IPPROTO_IP && cmsg->cmsg_type == IP_PKTINFO)
                        memcpy(&info, CMSG_DATA(cmsg), sizeof(info));
        return info.ipi_addr;
}

/* Answer what one socket has heard. */
static void return_cookies(struct flood *flood, int fd) {
        for (;;) {
                uint8_t data[2048], control[CMSG_SPACE(sizeof(struct in_pktinfo))], cookie[COOKIE_SIZE_MAX];
                struct iovec vector = { data, sizeof(data) };
                struct msghdr header = { .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control,
                                         .msg_controllen = sizeof(control) };
                ssize_t size = recvmsg(fd, &header, MSG_DONTWAIT);

                if (size < 0)
                        return;
                struct bytes found = cookie_of(bytes_of(data, (size_t)size));
                if (found.size == 0)
                        continue;
                struct in_addr from = local_of(&header);
                memcpy(cookie, found.data, found.size);
                prepare(flood, 0, from, hello(flood, from, cookie, found.size, flood->slots[0].data));
                send_all(flood, fd, 1);
                flood->n_cookies++;
                flood->heard_us = clock_monotonic_us();
        }
}

static void return_all_cookies(struct flood *flood) {
        for (unsigned i = 0; i < SOCKETS; i++)
                return_cookies(flood, flood->fds[i]);
}

/* Until it is quiet. */
static void linger(struct flood *flood) {
        struct pollfd polls[SOCKETS];

        for (unsigned i = 0; i < SOCKETS; i++)
                polls[i] = (struct pollfd){ .fd = flood->fds[i], .events = POLLIN };
        flood->heard_us = clock_monotonic_us();
        while (clock_monotonic_us() - flood->heard_us < QUIET_US) {
                (void)poll(polls, SOCKETS, (int)(QUIET_US / 1000));
                return_all_cookies(flood);
        }
}

/* ---- the whole */

static void run(struct flood *flood) {
        bool half = strcmp(flood->mode, "half") == 0;
        uint64_t n_left = flood->n;

        flood->begin_us = clock_monotonic_us();
        for (unsigned turn = 0; n_left > 0; turn++) {
                unsigned n = n_left < BURST ? (unsigned)n_left : BURST;

                pace(flood);
                burst(flood, flood->fds[turn % SOCKETS], n);
                n_left -= n;
                if (half)
                        return_all_cookies(flood);
        }
        flood->end_us = clock_monotonic_us();
        if (half)
                linger(flood);
}

static int sockets_open(struct flood *flood) {
        const struct sockaddr_in any = { .sin_family = AF_INET };
        int on = 1;

        for (unsigned i = 0; i < SOCKETS; i++) {
                flood->fds[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
                if (flood->fds[i] < 0 || bind(flood->fds[i], (const void *)&any, sizeof(any)) < 0 ||
                    setsockopt(flood->fds[i], IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) < 0)
                        return -errno;
        }
        return 0;
}

static int server_parse(char *text, struct sockaddr_in *ret) {
        char *colon = strrchr(text, ':');

        if (!colon)
                return -EINVAL;
        *colon = '\0';
        *ret = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1)) };
        return inet_pton(AF_INET, text, &ret->sin_addr) == 1 && ret->sin_port != 0 ? 0 : -EINVAL;
}

static int options_read(struct flood *flood, int argc, char **argv) {
        int option;

        while ((option = getopt(argc, argv, "n:r:s:")) != -1) {
                if (option == 'n')
                        flood->n = strtoull(optarg, NULL, 10);
                else if (option == 'r')
                        flood->rate = strtod(optarg, NULL);
                else if (option == 's')
                        flood->seed = strtoull(optarg, NULL, 10);
                else
                        return -EINVAL;
        }
        if (argc - optind != 2)
                return -EINVAL;
        flood->mode = argv[optind];
        if (strcmp(flood->mode, "hello") != 0 && strcmp(flood->mode, "half") != 0 &&
            strcmp(flood->mode, "garbage") != 0)
                return -EINVAL;
        return server_parse(argv[optind + 1], &flood->server);
}

static void flood_done(struct flood *flood) {
        for (unsigned i = 0; i < SOCKETS; i++)
                closep(&flood->fds[i]);
        free(flood->slots);
}

int main(int argc, char **argv) {
        _cleanup_(flood_done) struct flood flood = { .n = 1000, .seed = 1 };
        int r;

        for (unsigned i = 0; i < SOCKETS; i++)
                flood.fds[i] = -1;
        if (options_read(&flood, argc, argv) < 0) {
                fprintf(stderr, "flood [-n N] [-r RATE] [-s SEED] hello|half|garbage HOST:PORT\n");
                return 2;
        }
        flood.slots = calloc(BURST, sizeof(*flood.slots));
        if (!flood.slots || (r = sockets_open(&flood)) < 0) {
                fprintf(stderr, "flood: cannot begin: %s\n", strerror(flood.slots ? -r : ENOMEM));
                return 1;
        }
        run(&flood);
        printf("{\"mode\": \"%s\", \"sent\": %" PRIu64 ", \"unsent\": %" PRIu64 ", \"cookies\": %" PRIu64 ", "
               "\"seconds\": %.3f}\n", flood.mode, flood.n_sent, flood.n_unsent, flood.n_cookies,
               (double)(flood.end_us - flood.begin_us) / 1e6);
        return 0;
}
