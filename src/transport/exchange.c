#include "transport/exchange.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/queue.h>

#include "base/cleanup.h"
#include "base/secret.h"
#include "crypto/random.h"

#define SECOND_US INT64_C(1000000)

/* Transmission parameters (RFC 7252 §4.8) */
#define ACK_TIMEOUT_US (2 * SECOND_US)
#define ACK_JITTER_US (1 * SECOND_US) /* ACK_TIMEOUT * (ACK_RANDOM_FACTOR - 1) */
#define MAX_RETRANSMIT 4
#define EXCHANGE_LIFETIME_US (247 * SECOND_US)
#define NON_LIFETIME_US (145 * SECOND_US)

/* An answer that takes longer is announced by an empty Acknowledgement: well before the peer's ACK_TIMEOUT. */
#define ACK_DELAY_US (1 * SECOND_US)

/*
 * Our own Message IDs count up, so one comes back after 65536 others. With at most half of them in any window of
 * EXCHANGE_LIFETIME, two whole windows lie at least partly between, and thus a lifetime (§4.4).
 */
#define MIDS_PER_LIFETIME 32768

#define RECORDS_MIN 8
#define INDEX_NONE 0xfff /* no record: see struct record */
#define DIAGNOSTIC_SIZE sizeof("option 65535")

static_assert(EXCHANGE_RECORDS_MAX < INDEX_NONE, "an index and its end fit in 12 bits");
static_assert((EXCHANGE_RECORDS_MAX & (EXCHANGE_RECORDS_MAX - 1)) == 0, "the ring is a power of two");

enum entry_state {
        ENTRY_WAITING,  /* confirmable, not yet acknowledged; on exchange->waiting */
        ENTRY_ACKED,    /* confirmable, acknowledged: the answer will be a message of its own */
        ENTRY_NON,      /* non-confirmable */
        ENTRY_ANSWERED, /* the answer is kept; on peer->kept */
};

/* A request that waits for its answer, then the answer as it was sent. */
struct entry {
        TAILQ_ENTRY(entry) link;
        struct exchange_peer *peer;
        int64_t received_us;
        uint32_t sequence; /* its record's */
        uint16_t mid;
        uint8_t state;
        bool is_vouched;
        uint8_t token_size;
        uint8_t token[COAP_TOKEN_SIZE_MAX];
        size_t request_size;
        size_t size;
        uint8_t answer[];
};

TAILQ_HEAD(entries, entry);

/* A Message ID that the peer used: 16 bytes, as there are many. */
struct record {
        struct entry *entry;  /* NULL: nothing is left but that it was there */
        uint32_t expires_ms;  /* monotonic, cut to 32 bits */
        uint16_t mid;
        uint16_t next : 12;   /* the older one with the same hash */
        uint16_t is_non : 1;
        uint16_t is_acked : 1; /* by an empty Acknowledgement */
        uint16_t is_void : 1;  /* given up: as if it had never been */
};

/* A confirmable message of ours. */
struct transmission {
        STAILQ_ENTRY(transmission) link;
        uint64_t ticket;
        int64_t timeout_us;
        unsigned n_sent;
        uint16_t mid;
        size_t size;
        uint8_t data[];
};

struct exchange_peer {
        struct exchange *exchange;
        void *owner;
        int64_t idle_since_us;
        uint32_t serial; /* upper half of its tickets */
        bool is_authenticated;
        bool was_vouched; /* for one request at least */

        /* The ring: records first..end (sequence numbers), at sequence & (capacity - 1); hash heads behind them. */
        struct record *records;
        uint16_t *heads;
        uint32_t capacity, first, end;
        uint32_t salt;
        struct timer care; /* when the oldest record expires */

        struct entries kept;
        size_t n_kept;
        size_t entries_size; /* bytes in all entries */

        STAILQ_HEAD(, transmission) outgoing; /* the first is under way: NSTART is 1 */
        unsigned n_outgoing;
        size_t outgoing_size;
        struct timer retransmit;

        int64_t window_us; /* since when n_mids were used */
        uint32_t n_mids;
        uint16_t next_mid;
        uint32_t jitter;
};

struct exchange {
        struct exchange_callbacks callbacks;
        struct exchange_limits limits;
        struct entries waiting; /* in order of arrival */
        struct heap care, retransmissions;
        struct buf scratch;     /* the message being sent */
        uint32_t n_peers;       /* ever */
        struct exchange_figures figures;
};

DEFINE_FREEP(struct exchange, exchange_free)
DEFINE_FREEP(struct exchange_peer, exchange_peer_free)

/* ---- records of Message IDs */

static struct record *record_at(const struct exchange_peer *peer, uint32_t sequence) {
        return &peer->records[sequence & (peer->capacity - 1)];
}

/* Salted, so that a peer cannot choose where its Message IDs meet. */
static uint16_t *record_head(const struct exchange_peer *peer, uint16_t mid) {
        uint32_t hash = (mid + peer->salt) * (peer->salt | 1);

        return &peer->heads[(hash ^ hash >> 16) & (peer->capacity - 1)];
}

static bool record_expired(const struct record *record, int64_t now_us) {
        return (int32_t)((uint32_t)(now_us / 1000) - record->expires_ms) >= 0;
}

static struct record *record_find(const struct exchange_peer *peer, uint16_t mid, bool is_non, int64_t now_us) {
        uint16_t at;

        if (peer->capacity == 0)
                return NULL;
        for (at = *record_head(peer, mid); at != INDEX_NONE; at = peer->records[at].next) {
                struct record *record = &peer->records[at];

                if (record->mid == mid && record->is_non == is_non && !record->is_void)
                        return record_expired(record, now_us) ? NULL : record;
        }
        return NULL;
}

/* The record of a ticket that can be answered, or NULL. */
static struct record *record_of_ticket(const struct exchange_peer *peer, uint64_t ticket) {
        uint32_t sequence = (uint32_t)ticket;
        struct record *record;

        if (ticket >> 32 != peer->serial || sequence - peer->first >= peer->end - peer->first)
                return NULL;
        record = record_at(peer, sequence);
        return record->entry && record->entry->state != ENTRY_ANSWERED ? record : NULL;
}

static void record_link(struct exchange_peer *peer, uint32_t sequence) {
        struct record *record = record_at(peer, sequence);
        uint16_t *head = record_head(peer, record->mid);

        record->next = *head & INDEX_NONE;
        *head = (uint16_t)(sequence & (peer->capacity - 1));
}

static void entry_free(struct entry *entry) {
        struct exchange_peer *peer = entry->peer;

        if (entry->state == ENTRY_WAITING)
                TAILQ_REMOVE(&peer->exchange->waiting, entry, link);
        if (entry->state == ENTRY_ANSWERED) {
                TAILQ_REMOVE(&peer->kept, entry, link);
                peer->n_kept--;
                peer->exchange->figures.n_kept--;
        }
        peer->entries_size -= sizeof(*entry) + entry->size;
        wipe(entry->answer, entry->size); /* an answer may hold a key */
        free(entry);
}

static void record_drop_entry(struct record *record) {
        if (record->entry)
                entry_free(TAKE_PTR(record->entry));
}

/* The oldest record goes; it is the last one of its chain. */
static void record_pop(struct exchange_peer *peer) {
        struct record *record = record_at(peer, peer->first);
        uint16_t index = (uint16_t)(peer->first & (peer->capacity - 1));
        uint16_t *head = record_head(peer, record->mid);
        uint16_t at = *head;

        record_drop_entry(record);
        peer->first++;
        peer->exchange->figures.n_records--;
        if (at == index) {
                *head = INDEX_NONE;
                return;
        }
        while (peer->records[at].next != index)
                at = peer->records[at].next;
        peer->records[at].next = INDEX_NONE;
}

static void records_free(struct exchange_peer *peer) {
        free(peer->records);
        peer->records = NULL;
        peer->heads = NULL;
        peer->capacity = 0;
}

/* Forget what is older than its lifetime; all memory when nothing is left. */
static void records_expire(struct exchange_peer *peer, int64_t now_us) {
        while (peer->first != peer->end && record_expired(record_at(peer, peer->first), now_us))
                record_pop(peer);
        if (peer->first == peer->end)
                records_free(peer);
}

static int records_grow(struct exchange_peer *peer) {
        uint32_t capacity = peer->capacity ? peer->capacity * 2 : RECORDS_MIN;
        struct record *records, *old = peer->records;
        uint32_t old_capacity = peer->capacity;

        records = malloc(capacity * (sizeof(*records) + sizeof(*peer->heads)));
        if (!records)
                return -ENOMEM;
        peer->records = records;
        peer->heads = (uint16_t *)(records + capacity);
        peer->capacity = capacity;
        for (uint32_t i = 0; i < capacity; i++)
                peer->heads[i] = INDEX_NONE;
        for (uint32_t sequence = peer->first; sequence != peer->end; sequence++) {
                *record_at(peer, sequence) = old[sequence & (old_capacity - 1)];
                record_link(peer, sequence);
        }
        free(old);
        return 0;
}

/* Room for one more. -EBUSY: all are in use, and the oldest is a request that is not answered yet. */
static int records_make_room(struct exchange_peer *peer, int64_t now_us) {
        const struct entry *oldest;

        records_expire(peer, now_us);
        if (peer->end - peer->first < peer->capacity)
                return 0;
        if (peer->capacity < EXCHANGE_RECORDS_MAX)
                return records_grow(peer);
        oldest = record_at(peer, peer->first)->entry;
        if (oldest && oldest->state != ENTRY_ANSWERED)
                return -EBUSY;
        record_pop(peer);
        return 0;
}

static int record_add(struct exchange_peer *peer, const struct coap_message *message, int64_t now_us,
                      struct record **ret) {
        bool is_non = message->type == TYPE_NON;
        int64_t expires_us = now_us + (is_non ? NON_LIFETIME_US : EXCHANGE_LIFETIME_US);
        int r;

        r = records_make_room(peer, now_us);
        if (r < 0)
                return r;
        if (peer->care.slot == 0 && (r = heap_set(&peer->exchange->care, &peer->care, expires_us)) < 0)
                return r;
        *ret = record_at(peer, peer->end);
        **ret = (struct record){
                .mid = message->mid,
                .is_non = is_non,
                .expires_ms = (uint32_t)((expires_us + 999) / 1000),
        };
        record_link(peer, peer->end++);
        peer->exchange->figures.n_records++;
        return 0;
}

/* ---- what we say */

static void peer_send(struct exchange_peer *peer, struct bytes datagram) {
        const struct exchange_callbacks *callbacks = &peer->exchange->callbacks;

        callbacks->send(callbacks->context, peer, datagram);
}

static void send_empty(struct exchange_peer *peer, enum coap_type type, uint16_t mid) {
        const uint8_t message[4] = { (uint8_t)(1 << 6 | type << 4), CODE_EMPTY, (uint8_t)(mid >> 8), (uint8_t)mid };

        peer_send(peer, bytes_of(message, sizeof(message)));
}

static void tell_outcome(struct exchange_peer *peer, uint64_t ticket, bool acknowledged) {
        const struct exchange_callbacks *callbacks = &peer->exchange->callbacks;

        if (callbacks->outcome)
                callbacks->outcome(callbacks->context, peer, ticket, acknowledged);
}

static int draw_mid(struct exchange_peer *peer, int64_t now_us, uint16_t *ret) {
        if (now_us - peer->window_us >= EXCHANGE_LIFETIME_US) {
                peer->window_us = now_us;
                peer->n_mids = 0;
        }
        if (peer->n_mids >= MIDS_PER_LIFETIME)
                return -EBUSY;
        peer->n_mids++;
        *ret = peer->next_mid++;
        return 0;
}

/* ACK_TIMEOUT to ACK_TIMEOUT * ACK_RANDOM_FACTOR; spreads load, hides nothing: a congruential generator will do. */
static int64_t first_timeout(struct exchange_peer *peer) {
        peer->jitter = peer->jitter * UINT32_C(1664525) + UINT32_C(1013904223);
        return ACK_TIMEOUT_US + ((peer->jitter >> 8) * ACK_JITTER_US >> 24);
}

static void outgoing_next(struct exchange_peer *peer, int64_t now_us);

/* The one that is under way has ended; the next may go. */
static void outgoing_end(struct exchange_peer *peer, bool acknowledged, int64_t now_us) {
        struct transmission *transmission = STAILQ_FIRST(&peer->outgoing);
        uint64_t ticket = transmission->ticket;

        heap_remove(&peer->exchange->retransmissions, &peer->retransmit);
        STAILQ_REMOVE_HEAD(&peer->outgoing, link);
        peer->n_outgoing--;
        peer->outgoing_size -= sizeof(*transmission) + transmission->size;
        wipe(transmission->data, transmission->size);
        free(transmission);
        tell_outcome(peer, ticket, acknowledged);
        outgoing_next(peer, now_us);
}

/* Send the first of those that wait, if it is not under way already. */
static void outgoing_next(struct exchange_peer *peer, int64_t now_us) {
        struct transmission *transmission = STAILQ_FIRST(&peer->outgoing);
        int64_t due_us;

        if (!transmission || transmission->n_sent > 0)
                return;
        if (draw_mid(peer, now_us, &transmission->mid) == 0) {
                transmission->data[2] = (uint8_t)(transmission->mid >> 8);
                transmission->data[3] = (uint8_t)transmission->mid;
                transmission->timeout_us = first_timeout(peer);
                transmission->n_sent = 1;
                peer_send(peer, bytes_of(transmission->data, transmission->size));
                due_us = now_us + transmission->timeout_us;
        } else {
                due_us = peer->window_us + EXCHANGE_LIFETIME_US; /* Message IDs are free again */
        }
        if (heap_set(&peer->exchange->retransmissions, &peer->retransmit, due_us) < 0)
                outgoing_end(peer, false, now_us); /* no memory to ask for it again */
}

static void outgoing_due(struct exchange_peer *peer, int64_t now_us) {
        struct transmission *transmission = STAILQ_FIRST(&peer->outgoing);

        if (transmission->n_sent == 0) {
                outgoing_next(peer, now_us);
        } else if (transmission->n_sent > MAX_RETRANSMIT) {
                outgoing_end(peer, false, now_us);
        } else {
                transmission->n_sent++;
                transmission->timeout_us *= 2;
                heap_set(&peer->exchange->retransmissions, &peer->retransmit, now_us + transmission->timeout_us);
                peer_send(peer, bytes_of(transmission->data, transmission->size));
        }
}

static int outgoing_add(struct exchange_peer *peer, uint64_t ticket, struct bytes message) {
        struct transmission *transmission = malloc(sizeof(*transmission) + message.size);

        if (!transmission)
                return -ENOMEM;
        *transmission = (struct transmission){ .ticket = ticket, .size = message.size };
        memcpy(transmission->data, message.data, message.size);
        STAILQ_INSERT_TAIL(&peer->outgoing, transmission, link);
        peer->n_outgoing++;
        peer->outgoing_size += sizeof(*transmission) + message.size;
        return 0;
}

/* ---- answers */

/* The answer stays for duplicates. Without memory for it a duplicate is met with silence. */
static void answer_keep(struct record *record, struct bytes answer) {
        struct exchange_peer *peer = record->entry->peer;
        struct entry *entry = TAKE_PTR(record->entry), *larger;

        if (entry->state == ENTRY_WAITING)
                TAILQ_REMOVE(&peer->exchange->waiting, entry, link);
        entry->state = ENTRY_ACKED; /* on no list */
        larger = realloc(entry, sizeof(*entry) + answer.size);
        if (!larger) {
                entry_free(entry);
                return;
        }
        larger->size = answer.size;
        memcpy(larger->answer, answer.data, answer.size);
        larger->state = ENTRY_ANSWERED;
        record->entry = larger;
        TAILQ_INSERT_TAIL(&peer->kept, larger, link);
        peer->entries_size += answer.size;
        peer->n_kept++;
        peer->exchange->figures.n_kept++;
        while (peer->n_kept > (uint64_t)peer->exchange->limits.answers_max)
                record_drop_entry(record_at(peer, TAILQ_FIRST(&peer->kept)->sequence));
}

static int answer_piggybacked(struct exchange_peer *peer, struct record *record, struct coap_message *message) {
        struct buf *scratch = &peer->exchange->scratch;
        int r;

        message->type = TYPE_ACK;
        message->mid = record->mid;
        r = coap_message_encode(message, scratch);
        if (r < 0)
                return r;
        answer_keep(record, buf_bytes(scratch));
        peer_send(peer, buf_bytes(scratch));
        return 0;
}

static int answer_non(struct exchange_peer *peer, struct record *record, struct coap_message *message, int64_t now_us) {
        struct buf *scratch = &peer->exchange->scratch;
        int r;

        message->type = TYPE_NON;
        message->mid = 0;
        r = coap_message_encode(message, scratch);
        if (r < 0)
                return r;
        record_drop_entry(record);
        r = draw_mid(peer, now_us, &message->mid);
        if (r < 0)
                return r;
        scratch->data[2] = (uint8_t)(message->mid >> 8);
        scratch->data[3] = (uint8_t)message->mid;
        peer_send(peer, buf_bytes(scratch));
        return 0;
}

static int answer_separately(struct exchange_peer *peer, struct record *record, uint64_t ticket,
                             struct coap_message *message, int64_t now_us) {
        struct buf *scratch = &peer->exchange->scratch;
        int r;

        if ((!peer->is_authenticated && !record->entry->is_vouched) || peer->n_outgoing >= EXCHANGE_OUTGOING_MAX)
                return answer_non(peer, record, message, now_us);
        message->type = TYPE_CON;
        message->mid = 0; /* drawn when it is sent: it may have to wait for others */
        r = coap_message_encode(message, scratch);
        if (r == 0)
                r = outgoing_add(peer, ticket, buf_bytes(scratch));
        if (r < 0)
                return r;
        record_drop_entry(record);
        outgoing_next(peer, now_us);
        return 0;
}

int exchange_answer(struct exchange_peer *peer, uint64_t ticket, struct coap_message *message, int64_t now_us) {
        struct record *record = record_of_ticket(peer, ticket);
        struct buf *scratch = &peer->exchange->scratch;
        uint8_t token[COAP_TOKEN_SIZE_MAX];
        const struct entry *entry;
        int r;

        if (!record)
                return -ENOENT;
        entry = record->entry;
        memcpy(token, entry->token, sizeof(token)); /* the entry moves when the answer is kept */
        message->token = bytes_of(token, entry->token_size);
        if (entry->state == ENTRY_WAITING)
                r = answer_piggybacked(peer, record, message);
        else if (entry->state == ENTRY_ACKED)
                r = answer_separately(peer, record, ticket, message, now_us);
        else
                r = answer_non(peer, record, message, now_us);
        message->token = BYTES_NONE;
        wipe(scratch->data, scratch->capacity); /* an answer may hold a key; also one that did not fit */
        buf_clear(scratch);
        return r;
}

int exchange_notify(struct exchange_peer *peer, uint64_t ticket, struct coap_message *message, int64_t now_us) {
        struct buf *scratch = &peer->exchange->scratch;
        int r;

        if (!peer->is_authenticated && !peer->was_vouched)
                return -EPERM;
        if (peer->n_outgoing >= EXCHANGE_OUTGOING_MAX)
                return -EBUSY;
        message->type = TYPE_CON;
        message->mid = 0; /* drawn when it is sent */
        r = coap_message_encode(message, scratch);
        if (r == 0)
                r = outgoing_add(peer, ticket, buf_bytes(scratch));
        wipe(scratch->data, scratch->capacity);
        buf_clear(scratch);
        if (r == 0)
                outgoing_next(peer, now_us);
        return r;
}

void exchange_forget(struct exchange_peer *peer, uint64_t ticket) {
        struct record *record = record_of_ticket(peer, ticket);

        if (!record)
                return;
        record_drop_entry(record);
        record->is_void = true;
}

void exchange_silence(struct exchange_peer *peer, uint64_t ticket) {
        struct record *record = record_of_ticket(peer, ticket);

        if (!record)
                return;
        if (record->entry->state == ENTRY_WAITING) {
                record->is_acked = true;
                send_empty(peer, TYPE_ACK, record->mid);
        }
        record_drop_entry(record);
}

/* ---- what the peer says */

static void acknowledged(struct exchange_peer *peer, const struct coap_message *message, int64_t now_us) {
        const struct transmission *transmission = STAILQ_FIRST(&peer->outgoing);

        if (transmission && transmission->n_sent > 0 && transmission->mid == message->mid)
                outgoing_end(peer, message->type == TYPE_ACK, now_us);
}

/*
 * RFC 7252 §4.5. A stranger's answer was measured by his request: what is shorter than that and calls itself its
 * duplicate is none, and would have us say more to a spoofed address than came from there.
 */
static void duplicate(struct exchange_peer *peer, const struct record *record, size_t size) {
        const struct entry *entry = record->entry;

        peer->exchange->figures.n_duplicates++;
        if (record->is_acked)
                send_empty(peer, TYPE_ACK, record->mid);
        else if (entry && entry->state == ENTRY_ANSWERED && (peer->is_authenticated || size >= entry->request_size))
                peer_send(peer, bytes_of(entry->answer, entry->size));
}

static int request_add(struct exchange_peer *peer, const struct coap_message *message, size_t size, int64_t now_us,
                       uint64_t *ret_ticket) {
        struct entry *entry = malloc(sizeof(*entry));
        struct record *record;
        int r;

        if (!entry)
                return -ENOMEM;
        r = record_add(peer, message, now_us, &record);
        if (r < 0) {
                free(entry);
                return r;
        }
        *entry = (struct entry){
                .peer = peer,
                .received_us = now_us,
                .sequence = peer->end - 1,
                .mid = message->mid,
                .state = message->type == TYPE_NON ? ENTRY_NON : ENTRY_WAITING,
                .token_size = (uint8_t)message->token.size,
                .request_size = size,
        };
        if (message->token.size > 0)
                memcpy(entry->token, message->token.data, message->token.size);
        if (entry->state == ENTRY_WAITING)
                TAILQ_INSERT_TAIL(&peer->exchange->waiting, entry, link);
        peer->entries_size += sizeof(*entry);
        record->entry = entry;
        *ret_ticket = (uint64_t)peer->serial << 32 | entry->sequence;
        return 0;
}

static void refuse(struct exchange_peer *peer, uint64_t ticket, uint8_t code, const char *diagnostic, int64_t now_us) {
        const struct exchange_callbacks *callbacks = &peer->exchange->callbacks;
        struct coap_message answer = { .code = code };

        if (callbacks->refused)
                callbacks->refused(callbacks->context, code);
        if (peer->is_authenticated)
                answer.payload = bytes_text(diagnostic);
        exchange_answer(peer, ticket, &answer, now_us);
}

/* RFC 7252 §5.4.1: it is told which option; §5.10.2: what would make us a proxy has a code of its own. */
static void refuse_option(struct exchange_peer *peer, uint64_t ticket, uint16_t number, int64_t now_us) {
        char text[DIAGNOSTIC_SIZE];

        snprintf(text, sizeof(text), "option %u", (unsigned)number);
        if (number == OPTION_PROXY_URI || number == OPTION_PROXY_SCHEME)
                refuse(peer, ticket, CODE_PROXYING_NOT_SUPPORTED, NULL, now_us);
        else
                refuse(peer, ticket, CODE_BAD_OPTION, text, now_us);
}

/* size: of the datagram */
static void request(struct exchange_peer *peer, const struct coap_message *message, size_t size, int64_t now_us) {
        const struct exchange_callbacks *callbacks = &peer->exchange->callbacks;
        const struct record *record;
        uint64_t ticket;
        uint16_t bad;

        record = record_find(peer, message->mid, message->type == TYPE_NON, now_us);
        if (record) {
                duplicate(peer, record, size);
                return;
        }
        if (coap_request_check_options(message, &bad) == 0)
                bad = 0;
        if (bad != 0 && bad != OPTION_PROXY_URI && bad != OPTION_PROXY_SCHEME && message->type == TYPE_NON)
                return; /* §5.4.1: rejected */
        if (request_add(peer, message, size, now_us, &ticket) < 0)
                return; /* no room: as if the network had lost it */
        if (bad != 0)
                refuse_option(peer, ticket, bad, now_us);
        else if (message->code > CODE_IPATCH && !coap_message_option(message, OPTION_OSCORE, 0))
                refuse(peer, ticket, CODE_METHOD_NOT_ALLOWED, NULL, now_us);
        else
                callbacks->request(callbacks->context, peer, ticket, message);
}

static bool code_is_request(uint8_t code) {
        return code != CODE_EMPTY && code >> 5 == 0;
}

void exchange_input(struct exchange_peer *peer, struct bytes datagram, int64_t now_us) {
        struct coap_message message;
        bool header_ok;
        int r;

        peer->idle_since_us = now_us;
        r = coap_message_decode(datagram, &message, &header_ok);
        if (!header_ok || (r != 0 && message.type != TYPE_CON))
                return;
        if (r == 0 && code_is_request(message.code) && (message.type == TYPE_CON || message.type == TYPE_NON))
                request(peer, &message, datagram.size, now_us);
        else if (message.type == TYPE_CON)
                send_empty(peer, TYPE_RST, message.mid); /* format error, ping, a response that nobody asked for */
        else if ((message.type == TYPE_ACK && !code_is_request(message.code)) ||
                 (message.type == TYPE_RST && message.code == CODE_EMPTY))
                acknowledged(peer, &message, now_us);
}

bool exchange_is_request(struct bytes datagram) {
        struct coap_message message;
        bool header_ok;

        return coap_message_decode(datagram, &message, &header_ok) == 0 && code_is_request(message.code) &&
               (message.type == TYPE_CON || message.type == TYPE_NON);
}

/* ---- timers */

static void acknowledge_waiting(struct exchange *exchange, int64_t now_us) {
        struct entry *entry;

        while ((entry = TAILQ_FIRST(&exchange->waiting)) && entry->received_us + ACK_DELAY_US <= now_us) {
                TAILQ_REMOVE(&exchange->waiting, entry, link);
                entry->state = ENTRY_ACKED;
                record_at(entry->peer, entry->sequence)->is_acked = true;
                send_empty(entry->peer, TYPE_ACK, entry->mid);
        }
}

static void care(struct exchange_peer *peer, int64_t now_us) {
        heap_remove(&peer->exchange->care, &peer->care);
        records_expire(peer, now_us);
        /* the heap has room: a node has just left it. Not sooner than in a second: a step per peer, not per record. */
        if (peer->first != peer->end)
                heap_set(&peer->exchange->care, &peer->care,
                         now_us + SECOND_US + 1000 * (int64_t)(int32_t)(record_at(peer, peer->first)->expires_ms -
                                                                       (uint32_t)(now_us / 1000)));
}

void exchange_timers(struct exchange *exchange, int64_t now_us) {
        struct timer *timer;

        acknowledge_waiting(exchange, now_us);
        while ((timer = heap_first(&exchange->retransmissions)) && timer->due_us <= now_us)
                outgoing_due(timer_owner(timer, struct exchange_peer, retransmit), now_us);
        while ((timer = heap_first(&exchange->care)) && timer->due_us <= now_us)
                care(timer_owner(timer, struct exchange_peer, care), now_us);
}

int64_t exchange_due(const struct exchange *exchange) {
        const struct entry *waiting = TAILQ_FIRST(&exchange->waiting);
        const struct timer *timers[] = { heap_first(&exchange->retransmissions), heap_first(&exchange->care) };
        int64_t due_us = waiting ? waiting->received_us + ACK_DELAY_US : INT64_MAX;

        for (size_t i = 0; i < N_ELEMENTS(timers); i++)
                if (timers[i] && timers[i]->due_us < due_us)
                        due_us = timers[i]->due_us;
        return due_us;
}

/* ---- objects */

int exchange_new(const struct exchange_callbacks *callbacks, const struct exchange_limits *limits,
                 struct exchange **ret) {
        _cleanup_(exchange_freep) struct exchange *exchange = calloc(1, sizeof(*exchange));
        uint8_t *space;
        int r;

        if (!exchange)
                return -ENOMEM;
        exchange->callbacks = *callbacks;
        exchange->limits = *limits;
        TAILQ_INIT(&exchange->waiting);
        exchange->scratch = BUF_INIT(MESSAGE_SIZE_MAX);
        /* all at once: it never moves, leaving bytes of keys behind */
        r = buf_reserve(&exchange->scratch, MESSAGE_SIZE_MAX, &space);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(exchange);
        return 0;
}

void exchange_free(struct exchange *exchange) {
        if (!exchange)
                return;
        heap_done(&exchange->care);
        heap_done(&exchange->retransmissions);
        buf_done(&exchange->scratch);
        free(exchange);
}

void exchange_set_limits(struct exchange *exchange, const struct exchange_limits *limits) {
        exchange->limits = *limits;
}

int exchange_peer_new(struct exchange *exchange, void *owner, struct exchange_peer **ret) {
        _cleanup_(exchange_peer_freep) struct exchange_peer *peer = calloc(1, sizeof(*peer));
        struct {
                uint32_t salt, jitter;
                uint16_t mid;
        } random;
        int r;

        if (!peer)
                return -ENOMEM;
        peer->exchange = exchange;
        TAILQ_INIT(&peer->kept);
        STAILQ_INIT(&peer->outgoing);
        r = random_bytes(&random, sizeof(random));
        if (r < 0)
                return r;
        peer->owner = owner;
        peer->salt = random.salt;
        peer->jitter = random.jitter;
        peer->next_mid = random.mid; /* RFC 7252 §4.4: hard to guess for those off the path */
        peer->serial = ++exchange->n_peers & ~(uint32_t)(EXCHANGE_TICKET_OWN >> 32);
        *ret = TAKE_PTR(peer);
        return 0;
}

void exchange_peer_free(struct exchange_peer *peer) {
        struct transmission *transmission;

        if (!peer)
                return;
        heap_remove(&peer->exchange->care, &peer->care);
        heap_remove(&peer->exchange->retransmissions, &peer->retransmit);
        while (peer->first != peer->end)
                record_pop(peer);
        records_free(peer);
        while ((transmission = STAILQ_FIRST(&peer->outgoing))) {
                STAILQ_REMOVE_HEAD(&peer->outgoing, link);
                wipe(transmission->data, transmission->size);
                free(transmission);
        }
        free(peer);
}

void *exchange_peer_owner(const struct exchange_peer *peer) {
        return peer->owner;
}

void exchange_peer_set_authenticated(struct exchange_peer *peer) {
        peer->is_authenticated = true;
}

void exchange_vouch(struct exchange_peer *peer, uint64_t ticket) {
        struct record *record = record_of_ticket(peer, ticket);

        if (!record)
                return;
        record->entry->is_vouched = true;
        peer->was_vouched = true;
}

int64_t exchange_peer_idle_since_us(const struct exchange_peer *peer) {
        return peer->idle_since_us;
}

size_t exchange_peer_size(const struct exchange_peer *peer) {
        return sizeof(*peer) + peer->capacity * (sizeof(*peer->records) + sizeof(*peer->heads)) + peer->entries_size +
               peer->outgoing_size;
}

void exchange_figures(const struct exchange *exchange, struct exchange_figures *ret) {
        *ret = exchange->figures;
}
