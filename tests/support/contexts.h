#pragma once

#include "transport/oscore.h"

/* OSCORE without a network: a server (transport/oscore.c) with credentials in an array, and devices. For cmocka. */
#define MESSAGE_MAX 2048
#define SECOND_US INT64_C(1000000)
#define CREDENTIALS_MAX 64

struct registered {
        int64_t id;
        struct oscore_input input; /* from the server's side; id_context: the one in force */
        int64_t server_id; /* 0: it is a client's, of number 100 + id */
        bool renews, is_gone;
        uint8_t renewed[OSCORE_ID_CONTEXT_SIZE_MAX];
};

struct realm {
        struct registered registered[CREDENTIALS_MAX];
        size_t n_registered;
        uint64_t generation, epoch, next_number, numbers_max;
        unsigned n_loads, n_leases;
        int load_fails, renew_fails; /* what they return instead */
        struct oscore *oscore;
        struct engine_time now;
};

/* With one credential: kid c1, without ID Context. */
void realm_open(struct realm *realm);
void realm_close(struct realm *realm);
/* What the server asks for contexts and numbers. */
struct oscore_callbacks realm_callbacks(struct realm *realm);
/* The server begins anew: what it had in memory is gone. */
void realm_start(struct realm *realm, size_t contexts_max);
/* Returns its id. All is borrowed. AES-CCM-16-64-128, SHA-256, no salt; our ID is 5e. */
int64_t realm_enrol(struct realm *realm, const char *secret, struct bytes kid, struct bytes id_context);
struct registered *realm_registered(struct realm *realm, int64_t id);

struct device {
        struct realm *realm;
        struct oscore_keys keys;
        struct bytes kid_context; /* told in requests; data NULL: not */
        uint64_t piv;             /* of the next request */
        struct oscore_request request; /* the last one */
        struct buf sent;          /* the last one's bytes */
        struct buf plain;         /* what the server holds of it */
        struct oscore_taken taken;
};

/* The device's side of what is in force of the credential. */
struct oscore_input device_input(struct realm *realm, int64_t id);
struct device device_of(struct realm *realm, int64_t id);
void device_done(struct device *device);

/* Ask for something, with an Echo value (data NULL: without). */
enum oscore_verdict device_ask(struct device *device, struct bytes echo);
/* The bytes of a request that is not sent yet. */
void device_write(struct device *device, const struct coap_message *message);
enum oscore_verdict device_send(struct device *device, const struct coap_message *message);
/* The bytes that the device has sent reach the server, perhaps not for the first time. */
enum oscore_verdict device_arrives(struct device *device);
/* What the device reads in a response. Returns the server's own number, or -1. */
int64_t device_read(struct device *device, const struct coap_message *outer, struct buf *plain,
                    struct coap_message *ret);
/* The same, of one that is protected now, which is returned: its code. *ret_piv: the server's own number, or -1. */
uint8_t device_hear(struct device *device, const struct coap_message *inner, bool own_number, int64_t *ret_piv,
                    struct buf *plain, struct coap_message *ret);
/* The value in the protected 4.01 that the last request was answered with. */
void device_hear_echo(struct device *device, uint8_t ret[static OSCORE_ECHO_SIZE]);
/* The first request and the one with its Echo: from then on the window is known. */
void device_meet(struct device *device);
/* Answered in clear with this and nothing else. */
void expect_no(struct device *device, enum oscore_verdict verdict, uint8_t code, const char *text);
