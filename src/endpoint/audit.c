#include "endpoint/audit.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "endpoint/aced.h"
#include "endpoint/refusal.h"
#include "endpoint/request.h"
#include "format/audit.h"
#include "format/json.h"
#include "store/audit.h"

#define ACTION_SIZE 192                /* method and path; a longer one is cut */
#define BODY_READ_MAX (16 * 1024)      /* bytes; of a longer body nothing is told but that it was there */
#define BODY_PRINT_MAX (64 * 1024)
#define BODY_DEPTH_MAX JSON_DEPTH_MAX
#define HIDDEN "hidden"

_Static_assert(NOTE_POLICIES_MAX <= AUDIT_POLICIES_MAX, "all that are noted fit a record");

/* What a path or a body names may be any text. Returns where its end is. */
static size_t put_printable(char *to, size_t size, size_t at, struct bytes text) {
        for (size_t i = 0; i < text.size && at + 1 < size; i++)
                to[at++] = text.data[i] > ' ' && text.data[i] <= '~' ? (char)text.data[i] : '?';
        to[at] = '\0';
        return at;
}

/* ---- bodies */

/*
 * The members whose values are told. Whatever is not among them is hidden, so that a secret that somebody adds and
 * forgets here stays one.
 */
static const char *const told[] = {
        "activate_in_s", "advance_s", "after", "alg", "audience", "audiences", "client", "credentials", "days",
        "default_audience", "default_lifetime_s", "default_scope", "derives_key", "effect", "from_s", "group_audiences",
        "has_clock", "hkdf", "hours", "id_context_hex", "identity", "identity_hex", "kid_hex", "kind", "label",
        "labels", "master_salt_hex", "match", "max_lifetime_s", "may_introspect", "name", "oscore_alg", "oscore_hkdf",
        "overlap_s", "pop_keys", "preferred_profile", "profiles", "public_key_hex", "recipient_id_hex",
        "refresh_lifetime_s", "renews", "role", "scope", "scope_kind", "scopes", "sender_id_hex", "sender_number",
        "server", "shadow", "sign_alg", "suspended", "token_alg", "token_format", "token_kid_hex", "token_tagged",
        "tokens_max", "trl", "until_s", "wrap_alg",
};

static bool is_told(const char *member) {
        for (size_t i = 0; i < N_ELEMENTS(told); i++)
                if (strcmp(told[i], member) == 0)
                        return true;
        return false;
}

/* A copy without what is not told; NULL: no memory. */
static json_t *hide(json_t *value, unsigned depth) {
        json_t *copy, *item;
        const char *member;
        size_t i;
        int r = 0;

        if ((!json_is_object(value) && !json_is_array(value)) || depth >= BODY_DEPTH_MAX)
                return depth < BODY_DEPTH_MAX ? json_copy(value) : json_string(HIDDEN);
        copy = json_is_object(value) ? json_object() : json_array();
        if (json_is_object(value))
                json_object_foreach(value, member, item)
                        r |= json_object_set_new(copy, member, is_told(member) ? hide(item, depth + 1) :
                                                                                 json_string(HIDDEN));
        else
                json_array_foreach(value, i, item)
                        r |= json_array_append_new(copy, hide(item, depth + 1));
        if (r == 0)
                return copy;
        json_decref(copy);
        return NULL;
}

/* Not longer than max, nor with half a character at its end. */
static struct bytes cut(struct bytes text, size_t max, bool *ret_is_cut) {
        if (text.size <= max)
                return text;
        *ret_is_cut = true;
        while (max > 0 && (text.data[max] & 0xc0) == 0x80)
                max--;
        return bytes_of(text.data, max);
}

static int print_body(json_t *root, struct response *response, struct buf *text) {
        static const char *const subjects[] = { "name", "client", "label" };
        json_t *shown = hide(root, 0);
        int r = shown ? json_print(shown, text) : -ENOMEM;

        json_decref(shown);
        for (size_t i = 0; i < N_ELEMENTS(subjects) && response->note.object[0] == '\0'; i++) {
                const char *name = json_string_value(json_object_get(root, subjects[i]));

                if (name)
                        (void)put_printable(response->note.object, sizeof(response->note.object), 0, bytes_text(name));
        }
        return r;
}

/* What an administrator has sent; what is no JSON is not told. */
static int put_body(const struct request *request, struct response *response, struct audit_record *record,
                    struct buf *text) {
        _cleanup_(json_document_done) struct json_document document = {};
        _cleanup_(diags_done) struct diags faults = {};
        int r;

        if (request->peer->channel != CHANNEL_LOCAL || (!request->json && request->payload.size == 0))
                return 0;
        if (!request->json && request->payload.size > BODY_READ_MAX) {
                record->is_cut = true;
                return 0;
        }
        if (!request->json && (r = json_parse(request->payload, &document, &faults)) != 0)
                return r < 0 ? r : 0;
        r = print_body(request->json ? request->json : document.root, response, text);
        if (r == 0)
                record->body = cut(buf_bytes(text), AUDIT_BODY_MAX, &record->is_cut);
        return r;
}

/* ---- the rest */

static void put_action(const struct request *request, struct audit_record *record, char text[static ACTION_SIZE]) {
        size_t n = (size_t)snprintf(text, ACTION_SIZE, "%s ", method_name(request->method)), wanted = n;

        for (size_t i = 0; i < request->n_segments; i++) {
                n = put_printable(text, ACTION_SIZE, n, BYTES_LITERAL("/"));
                n = put_printable(text, ACTION_SIZE, n, request->segments[i]);
                wanted += 1 + request->segments[i].size;
        }
        record->is_cut = record->is_cut || wanted > n;
        record->action = bytes_of(text, n);
}

/* "/v1/clients/{}/…", "/v1/tokens/{}": whom it is about stands at that place of every path. */
static void name_object(const struct request *request, struct note *note) {
        if (note->object[0] == '\0' && request->peer->channel == CHANNEL_LOCAL && request->n_segments > 2)
                (void)put_printable(note->object, sizeof(note->object), 0, request->segments[2]);
}

static void put_note(const struct note *note, struct audit_record *record) {
        record->party = bytes_text(note->party);
        record->object = bytes_text(note->object);
        record->asked_kind = note->asked.kind;
        record->asked = scope_bytes(&note->asked);
        record->granted_kind = note->granted.kind;
        record->granted = scope_bytes(&note->granted);
        record->has_shadow = note->has_shadow;
        record->shadow_kind = note->shadow.kind;
        record->shadow = scope_bytes(&note->shadow);
        record->n_policies = note->n_policies < NOTE_POLICIES_MAX ? note->n_policies : NOTE_POLICIES_MAX;
        record->n_more_policies = note->n_policies - record->n_policies;
        memcpy(record->policies, note->policies, record->n_policies * sizeof(record->policies[0]));
        record->expires_s = note->expires_s;
}

static void put_outcome(const struct request *request, const struct response *response, struct audit_record *record) {
        const struct peer *peer = request->peer;

        record->decision = response->decision_id;
        record->peer = bytes_text(peer->name);
        record->credential_id = peer->credential_id;
        record->has_uid = peer->channel == CHANNEL_LOCAL;
        record->uid = record->has_uid ? peer->uid : 0;
        record->code = response->code;
        record->refusal = response->refusal != 0 ? bytes_text(refusal_row(response->refusal)->name) : BYTES_NONE;
        record->why = bytes_text(response->why);
        record->token = response->token_number;
}

int audit_add(struct aced *as, const struct request *request, struct response *response) {
        _cleanup_(buf_done) struct buf body = BUF_INIT(BODY_PRINT_MAX);
        uint8_t space[AUDIT_RECORD_MAX];
        struct buf encoded = { .data = space, .capacity = sizeof(space), .limit = sizeof(space) }; /* does not grow */
        struct audit_record record = {};
        char action[ACTION_SIZE];
        int r;

        name_object(request, &response->note);
        put_outcome(request, response, &record);
        put_action(request, &record, action);
        r = put_body(request, response, &record, &body);
        if (r == -EOVERFLOW) /* of so many members that none is worth being told */
                record.is_cut = true;
        else if (r != 0)
                return r;
        put_note(&response->note, &record);
        if ((r = audit_record_encode(&record, &encoded)) != 0)
                return r;
        return store_audit_add(as->store, request->now_s, buf_bytes(&encoded), &response->audit_seq);
}
