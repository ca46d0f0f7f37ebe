#pragma once

#include "base/buf.h"
#include "base/diag.h"
#include "base/secret.h"
#include "domain/oscore.h"

/*
 * The provisioning record of a device: all that it has to know to speak OSCORE with us, from its own side (sender_id is
 * what it sends as kid). It is made once, when the credential is, as JSON and as CBOR.
 */
struct oscore_record {
        struct oscore_parameters parameters;
        struct secret master_secret;
};

#define OSCORE_RECORD_SIZE_MAX 256       /* bytes of CBOR */
#define OSCORE_RECORD_TEXT_MAX (16 * 1024) /* of a text that oscore_record_read() takes */

void oscore_record_done(struct oscore_record *record);

/*
 * In CBOR, deterministic (RFC 8949 §4.2.1): a map with the labels of OSCORE_Input_Material (RFC 9203 §9.4) that fit,
 * 2 ms, 3 hkdf and 4 alg unless they are the defaults, 5 salt unless it is empty, 6 contextId, and ours: -1 the sender
 * ID, -2 the recipient ID, -3 true when the context may be renewed. 0, -ENOMEM, -EOVERFLOW; the caller wipes out.
 */
int oscore_record_encode(const struct oscore_record *record, struct buf *out);
/*
 * The reverse. REFUSE_MALFORMED: no well-formed map; REFUSE_WRONG_TYPE: not what oscore_record_encode() makes of good
 * parameters, be it an unknown label or another encoding of the same.
 */
int oscore_record_decode(struct bytes raw, struct oscore_record *ret);

struct json_t;

/*
 * As a JSON object: master_secret_hex, master_salt_hex, sender_id_hex, recipient_id_hex, id_context_hex (left out:
 * none), alg, hkdf, renews (left out: false). NULL: no memory.
 */
struct json_t *oscore_record_json(const struct oscore_record *record);

/*
 * A record as a file has it: the JSON object (master_salt_hex, alg and hkdf may be left out: the empty salt and the
 * defaults), an object with that as its member "record", as acectl prints it, or the CBOR in hexadecimal. 0;
 * REFUSE_ADMIN_SYNTAX, REFUSE_ADMIN_VALUE with what is wrong in *faults; -ENOMEM.
 */
int oscore_record_read(struct bytes text, struct oscore_record *ret, struct diags *faults);
