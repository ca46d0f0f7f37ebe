#pragma once

#include "base/buf.h"
#include "domain/aif.h"

struct cbor_writer;

/* AIF (RFC 9237) on the wire, in CBOR, and as people write it. */

#define AIF_ENCODED_SIZE_MAX 512 /* bytes that aif_decode() looks at; what aif_put() writes is shorter */
#define AIF_OBJECTS_MAX 96       /* pairs that it takes, before those of one object are merged */

/*
 * RFC 9237 §2.1, AIF-Generic<tstr, uint>: [[Toid, Tperm], …]. Pairs of one object are merged, those without permissions
 * dropped. Returns 0; REFUSE_SCOPE for anything else, for too many or too long ones, for nothing left, for control
 * characters in a Toid.
 */
int aif_decode(struct bytes raw, struct scope *ret);

/* The same as a byte string (RFC 9200 §5.8.1: scope is text or bytes), each object once, in the order of their bytes. */
void aif_put(struct cbor_writer *w, const struct scope *scope);

/*
 * How people write it: "aif:/s/temp=GET,PUT;/a/led=3". Permissions are REST methods (RFC 9237 §3.1) and numbers, which
 * are sums of bits (1 is GET, 2 POST, 3 both). ';' and '\' in an object are written "\;" and "\\". Printed are methods'
 * names for objects that are paths, numbers for others.
 */
#define AIF_PREFIX "aif:"
#define AIF_TEXT_SIZE_MAX 4096
int aif_parse(struct bytes text, struct scope *ret); /* with the prefix; 0, REFUSE_SCOPE */
int aif_print(const struct scope *scope, struct buf *out); /* 0, -ENOMEM, -EOVERFLOW */
/* As much of it as fits, with "..." behind it if that is not all: for logs. size: at least 16. */
void aif_print_cut(const struct scope *scope, char *ret, size_t size);
