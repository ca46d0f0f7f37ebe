#pragma once

#include "base/buf.h"
#include "base/diag.h"

/*
 * JSON text (RFC 8259) ⇄ structs, for the control socket: field tables over jansson, as cbor.h has them over CBOR.
 * Every fault is told, not the first alone, in words that name the member: an administrator must hear about a typing
 * error.
 */
#define JSON_TEXT_MAX (1024 * 1024) /* bytes of one text; the doors allow less */
#define JSON_DEPTH_MAX 8            /* arrays and objects inside each other */
#define JSON_TEXTS_MAX 32           /* strings in one array */
#define JSON_FAULTS_MAX 32          /* told of one text; the others are not */

struct json_t; /* jansson's json_t */

/*
 * Keys come and go as JSON at the control socket. Called once by a main before anything else uses jansson: from then on
 * all memory that jansson gives back is wiped first.
 */
void json_wipe_what_is_freed(void);

/* A parsed text: owns every string that was read out of it. json_document_done() frees; start from { NULL }. */
struct json_document {
        struct json_t *root;
};
void json_document_done(struct json_document *document);

/* What a member may be, and the type that stands for it in the target struct. */
enum json_field_kind {
        JSON_FIELD_TEXT,  /* const char *: NULL when absent; UTF-8 without zero bytes, borrowed from the document */
        JSON_FIELD_INT,   /* struct json_int */
        JSON_FIELD_BOOL,  /* struct json_bool */
        JSON_FIELD_TEXTS, /* struct json_texts: an array of strings, borrowed likewise */
};

struct json_int {
        bool set;
        int64_t value;
};

struct json_bool {
        bool set;
        bool value;
};

struct json_texts {
        bool set;
        size_t n_items;
        const char *items[JSON_TEXTS_MAX];
};

/* A row of a message. */
struct json_field {
        const char *name;
        enum json_field_kind kind;
        size_t offset;    /* in the target struct */
        bool required;
        int64_t min, max; /* inclusive. INT: the value; both 0: any. TEXT, TEXTS: bytes of each string; max 0: any */
};

/*
 * Read text as one object with the rows' members. Every row's place in *target is set, absent members as absent; null
 * is no value of any kind. Returns 0; REFUSE_ADMIN_SYNTAX: not one JSON object (duplicate members, over-deep and
 * over-long texts too); REFUSE_ADMIN_VALUE: an unknown or missing member, a wrong kind, out of range; each with a row
 * per fault in *faults (file NULL; line of a syntax fault, else 0); -ENOMEM. *ret_document is set on 0 only.
 */
int json_read(struct bytes text, const struct json_field *fields, size_t n_fields, void *target,
              struct json_document *ret_document, struct diags *faults);

/* The same of a value that was parsed already, and owns what *target borrows. */
int json_read_value(struct json_t *value, const struct json_field *fields, size_t n_fields, void *target,
                    struct diags *faults);

/* Any one JSON value, within the same bounds. 0, REFUSE_ADMIN_SYNTAX with a fault, -ENOMEM. */
int json_parse(struct bytes text, struct json_document *ret_document, struct diags *faults);

/* Append value as JSON without white space, members as they were set. 0, -ENOMEM, -EOVERFLOW, -EINVAL (value NULL). */
int json_print(const struct json_t *value, struct buf *out);

/* The faults as one line, "; " between them, cut to size with a final zero: for a response's detail. */
void json_faults_line(const struct diags *faults, char *line, size_t size);
