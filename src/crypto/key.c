#include "crypto/key.h"

#include <errno.h>

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "crypto/random.h"

DEFINE_FREEP(EC_GROUP, EC_GROUP_free)
DEFINE_FREEP(EC_POINT, EC_POINT_free)
DEFINE_FREEP(EVP_PKEY, EVP_PKEY_free)
DEFINE_FREEP(BIGNUM, BN_clear_free)
DEFINE_FREEP(BN_CTX, BN_CTX_free)

#define POINT_SIZE_MAX (1 + 2 * COORDINATE_SIZE_MAX) /* uncompressed: 04 ‖ x ‖ y */
#define DRAWS_MAX 64                                 /* one draw in 2^32 is no private key of P-256 */
#define UNCOMPRESSED 0x04

/* Object identifiers, DER: ecPublicKey, prime256v1, secp384r1 (RFC 5480 §2.1.1), Ed25519, X25519 (RFC 8410 §3) */
#define OID_EC "\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"
#define OID_P256 "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"
#define OID_P384 "\x06\x05\x2b\x81\x04\x00\x22"
#define OID_ED25519 "\x06\x03\x2b\x65\x70"
#define OID_X25519 "\x06\x03\x2b\x65\x6e"

/*
 * spki: what stands before the point or the bytes of the key in a SubjectPublicKeyInfo. pkcs8: before the private key;
 * between: before the public point after it. DER has one encoding, so what begins and ends like this is it.
 */
static const struct curve_row {
        const char *name;
        size_t size;
        int nid;
        bool is_weierstrass;
        struct bytes spki, pkcs8, between;
} curve_rows[] = {
        [CURVE_P256] = { "P-256", 32, NID_X9_62_prime256v1, true,
                BYTES_LITERAL("\x30\x59\x30\x13" OID_EC OID_P256 "\x03\x42\x00"),
                BYTES_LITERAL("\x30\x81\x87\x02\x01\x00\x30\x13" OID_EC OID_P256
                              "\x04\x6d\x30\x6b\x02\x01\x01\x04\x20"),
                BYTES_LITERAL("\xa1\x44\x03\x42\x00") },
        [CURVE_P384] = { "P-384", 48, NID_secp384r1, true,
                BYTES_LITERAL("\x30\x76\x30\x10" OID_EC OID_P384 "\x03\x62\x00"),
                BYTES_LITERAL("\x30\x81\xb6\x02\x01\x00\x30\x10" OID_EC OID_P384
                              "\x04\x81\x9e\x30\x81\x9b\x02\x01\x01\x04\x30"),
                BYTES_LITERAL("\xa1\x64\x03\x62\x00") },
        [CURVE_ED25519] = { "Ed25519", 32, NID_ED25519, false,
                BYTES_LITERAL("\x30\x2a\x30\x05" OID_ED25519 "\x03\x21\x00"),
                BYTES_LITERAL("\x30\x2e\x02\x01\x00\x30\x05" OID_ED25519 "\x04\x22\x04\x20"), BYTES_NONE },
        [CURVE_X25519] = { "X25519", 32, NID_X25519, false,
                BYTES_LITERAL("\x30\x2a\x30\x05" OID_X25519 "\x03\x21\x00"),
                BYTES_LITERAL("\x30\x2e\x02\x01\x00\x30\x05" OID_X25519 "\x04\x22\x04\x20"), BYTES_NONE },
};

static const struct curve_row *curve_row(enum curve curve) {
        return curve > CURVE_NONE && curve < CURVES ? &curve_rows[curve] : NULL;
}

size_t curve_size(enum curve curve) {
        const struct curve_row *row = curve_row(curve);

        return row ? row->size : 0;
}

const char *curve_name(enum curve curve) {
        const struct curve_row *row = curve_row(curve);

        return row ? row->name : NULL;
}

enum curve curve_from_name(const char *name) {
        for (enum curve curve = CURVE_NONE + 1; curve < CURVES; curve++)
                if (strcmp(curve_rows[curve].name, name) == 0)
                        return curve;
        return CURVE_NONE;
}

/* OpenSSL refused: for want of memory, or because of what it was given. */
static int refused(void) {
        unsigned long error;
        int r = -EINVAL;

        while ((error = ERR_get_error()) != 0)
                if (ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE)
                        r = -ENOMEM;
        return r;
}

static int broke(void) {
        return refused() == -ENOMEM ? -ENOMEM : -EIO;
}

/* ---- P-256, P-384 */

/* 04 ‖ x ‖ y */
static struct bytes point_bytes(const struct public_key *key, uint8_t space[static POINT_SIZE_MAX]) {
        size_t size = curve_size(key->curve);

        space[0] = UNCOMPRESSED;
        memcpy(space + 1, key->x, size);
        memcpy(space + 1 + size, key->y, size);
        return bytes_of(space, 1 + 2 * size);
}

static void point_coordinates(struct public_key *key, const uint8_t *point) {
        size_t size = curve_size(key->curve);

        memcpy(key->x, point + 1, size);
        memcpy(key->y, point + 1 + size, size);
}

/* OpenSSL looks at the coordinates' range and at the curve's equation; all points of these curves have its order. */
static int check_weierstrass(const struct public_key *key) {
        _cleanup_(EC_GROUP_freep) EC_GROUP *group = EC_GROUP_new_by_curve_name(curve_rows[key->curve].nid);
        _cleanup_(EC_POINT_freep) EC_POINT *point = group ? EC_POINT_new(group) : NULL;
        uint8_t space[POINT_SIZE_MAX];
        struct bytes bytes = point_bytes(key, space);

        if (!point)
                return broke();
        return EC_POINT_oct2point(group, point, bytes.data, bytes.size, NULL) == 1 ? 0 : refused();
}

static int take_point(const EC_GROUP *group, const EC_POINT *point, struct public_key *key) {
        size_t size = 1 + 2 * curve_size(key->curve);
        uint8_t space[POINT_SIZE_MAX];

        if (EC_POINT_point2oct(group, point, POINT_CONVERSION_UNCOMPRESSED, space, sizeof(space), NULL) != size)
                return broke();
        point_coordinates(key, space);
        return 0;
}

int public_key_decompress(struct public_key *key, bool y_is_odd) {
        const struct curve_row *row = curve_row(key->curve);
        _cleanup_(EC_GROUP_freep) EC_GROUP *group = NULL;
        _cleanup_(EC_POINT_freep) EC_POINT *point = NULL;
        uint8_t compressed[1 + COORDINATE_SIZE_MAX];

        if (!row || !row->is_weierstrass)
                return -EINVAL;
        if (!(group = EC_GROUP_new_by_curve_name(row->nid)) || !(point = EC_POINT_new(group)))
                return broke();
        compressed[0] = y_is_odd ? 0x03 : 0x02;
        memcpy(compressed + 1, key->x, row->size);
        if (EC_POINT_oct2point(group, point, compressed, 1 + row->size, NULL) != 1)
                return refused();
        return take_point(group, point, key);
}

/* A private key is a number from 1 to the group's order - 1 (SEC 1 §3.2.1). */
static int weierstrass_public(enum curve curve, struct bytes private_key, struct public_key *ret) {
        _cleanup_(EC_GROUP_freep) EC_GROUP *group = EC_GROUP_new_by_curve_name(curve_rows[curve].nid);
        _cleanup_(EC_POINT_freep) EC_POINT *point = group ? EC_POINT_new(group) : NULL;
        _cleanup_(BN_clear_freep) BIGNUM *number = BN_secure_new();

        if (!point || !number || !BN_bin2bn(private_key.data, (int)private_key.size, number))
                return broke();
        if (BN_is_zero(number) || BN_cmp(number, EC_GROUP_get0_order(group)) >= 0)
                return -EINVAL;
        BN_set_flags(number, BN_FLG_CONSTTIME);
        if (EC_POINT_mul(group, point, number, NULL, NULL, NULL) != 1)
                return broke();
        *ret = (struct public_key){ .curve = curve };
        return take_point(group, point, ret);
}

/* ---- Ed25519, X25519 */

#define FIELD_SIZE 32

/* 2^255 - 19, big-endian, as all numbers here */
static const uint8_t field_prime[FIELD_SIZE] =
        "\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xed";
/* d of RFC 8032 §5.1: -121665/121666 */
static const uint8_t edwards_d[FIELD_SIZE] =
        "\x52\x03\x6c\xee\x2b\x6f\xfe\x73\x8c\xc7\x40\x79\x77\x79\xe8\x98"
        "\x00\x70\x0a\x4d\x41\x41\xd8\xab\x75\xeb\x4d\xca\x13\x59\x78\xa3";
#define MONTGOMERY_A 486662 /* RFC 7748 §4.1 */

/* What the points of order 1, 2, 4 and 8 have for y on Ed25519, for u on X25519: 0, 1, -1 beside these */
static const uint8_t small_order[][2][FIELD_SIZE] = {
        [CURVE_ED25519] = {
                "\x7a\x03\xac\x92\x77\xfd\xc7\x4e\xc6\xcc\x39\x2c\xfa\x53\x20\x2a"
                "\x0f\x67\x10\x0d\x76\x0b\x3c\xba\x4f\xd8\x4d\x3d\x70\x6a\x17\xc7",
                "\x05\xfc\x53\x6d\x88\x02\x38\xb1\x39\x33\xc6\xd3\x05\xac\xdf\xd5"
                "\xf0\x98\xef\xf2\x89\xf4\xc3\x45\xb0\x27\xb2\xc2\x8f\x95\xe8\x26" },
        [CURVE_X25519] = {
                "\x00\xb8\x49\x5f\x16\x05\x62\x86\xfd\xb1\x32\x9c\xeb\x8d\x09\xda"
                "\x6a\xc4\x9f\xf1\xfa\xe3\x56\x16\xae\xb8\x41\x3b\x7c\x7a\xeb\xe0",
                "\x57\x11\x9f\xd0\xdd\x4e\x22\xd8\x86\x8e\x1c\x58\xc4\x5c\x44\x04"
                "\x5b\xef\x83\x9c\x55\xb1\xd0\xb1\x24\x8c\x50\xa3\xbc\x95\x9c\x5f" },
};

/* Numbers of the field; all from one BN_CTX frame. */
struct field {
        BN_CTX *ctx;
        BIGNUM *prime, *value, *square, *a, *b, *one;
};

static bool field_begin(struct field *f, const uint8_t value[static FIELD_SIZE]) {
        BN_CTX_start(f->ctx);
        f->prime = BN_CTX_get(f->ctx);
        f->value = BN_CTX_get(f->ctx);
        f->square = BN_CTX_get(f->ctx);
        f->a = BN_CTX_get(f->ctx);
        f->b = BN_CTX_get(f->ctx);
        f->one = BN_CTX_get(f->ctx);
        return f->one && BN_bin2bn(field_prime, FIELD_SIZE, f->prime) && BN_bin2bn(value, FIELD_SIZE, f->value) &&
               BN_one(f->one) == 1 && BN_mod_sqr(f->square, f->value, f->prime, f->ctx) == 1;
}

/* x² = (y² - 1) / (d y² + 1) has a solution if the product of both is a square (RFC 8032 §5.1.3). 1, 0, -2 failed. */
static int is_on_edwards(struct field *f) {
        if (BN_mod_sub(f->a, f->square, f->one, f->prime, f->ctx) != 1 ||
            !BN_bin2bn(edwards_d, FIELD_SIZE, f->b) || BN_mod_mul(f->b, f->b, f->square, f->prime, f->ctx) != 1 ||
            BN_mod_add(f->b, f->b, f->one, f->prime, f->ctx) != 1 ||
            BN_mod_mul(f->a, f->a, f->b, f->prime, f->ctx) != 1)
                return -2;
        return BN_kronecker(f->a, f->prime, f->ctx);
}

/* v² = u³ + A u² + u (RFC 7748 §4.1); of the twist is no key that was made by the rules. 1, 0, -1, -2 failed. */
static int is_on_montgomery(struct field *f) {
        if (BN_set_word(f->b, MONTGOMERY_A) != 1 || BN_mod_mul(f->b, f->b, f->value, f->prime, f->ctx) != 1 ||
            BN_mod_add(f->a, f->square, f->b, f->prime, f->ctx) != 1 ||
            BN_mod_add(f->a, f->a, f->one, f->prime, f->ctx) != 1 ||
            BN_mod_mul(f->a, f->a, f->value, f->prime, f->ctx) != 1)
                return -2;
        return BN_kronecker(f->a, f->prime, f->ctx);
}

static bool has_small_order(enum curve curve, const uint8_t value[static FIELD_SIZE], const struct field *f) {
        struct bytes bytes = bytes_of(value, FIELD_SIZE);

        /* f->a is free: -1 */
        return BN_is_zero(f->value) || BN_is_one(f->value) ||
               (BN_sub(f->a, f->prime, f->one) == 1 && BN_cmp(f->value, f->a) == 0) ||
               bytes_equal(bytes, bytes_of(small_order[curve][0], FIELD_SIZE)) ||
               bytes_equal(bytes, bytes_of(small_order[curve][1], FIELD_SIZE));
}

static int check_okp(const struct public_key *key) {
        _cleanup_(BN_CTX_freep) BN_CTX *ctx = BN_CTX_new();
        struct field f = { .ctx = ctx };
        uint8_t value[FIELD_SIZE];
        int on_curve = -2;

        if (!ctx)
                return broke();
        for (size_t i = 0; i < FIELD_SIZE; i++)
                value[i] = key->x[FIELD_SIZE - 1 - i];
        if (key->curve == CURVE_ED25519)
                value[0] &= 0x7f; /* the sign of x */
        if (field_begin(&f, value)) {
                if (BN_cmp(f.value, f.prime) >= 0 || has_small_order(key->curve, value, &f))
                        on_curve = 0;
                else
                        on_curve = key->curve == CURVE_ED25519 ? is_on_edwards(&f) : is_on_montgomery(&f);
        }
        BN_CTX_end(ctx);
        if (on_curve < -1)
                return broke();
        return on_curve == 1 ? 0 : -EINVAL;
}

static int okp_public(enum curve curve, struct bytes private_key, struct public_key *ret) {
        _cleanup_(EVP_PKEY_freep) EVP_PKEY *pair =
                EVP_PKEY_new_raw_private_key(curve_rows[curve].nid, NULL, private_key.data, private_key.size);
        struct public_key key = { .curve = curve };
        size_t size = sizeof(key.x);

        if (!pair || EVP_PKEY_get_raw_public_key(pair, key.x, &size) != 1 || size != FIELD_SIZE)
                return broke();
        *ret = key;
        return 0;
}

/* ---- either */

int public_key_check(const struct public_key *key) {
        const struct curve_row *row = curve_row(key->curve);

        if (!row)
                return -EINVAL;
        return row->is_weierstrass ? check_weierstrass(key) : check_okp(key);
}

bool public_key_equal(const struct public_key *a, const struct public_key *b) {
        const struct curve_row *row = curve_row(a->curve);

        return row && a->curve == b->curve && memcmp(a->x, b->x, row->size) == 0 &&
               (!row->is_weierstrass || memcmp(a->y, b->y, row->size) == 0);
}

int public_key_spki(const struct public_key *key, uint8_t ret[static SPKI_SIZE_MAX], size_t *ret_size) {
        const struct curve_row *row = curve_row(key->curve);
        uint8_t space[POINT_SIZE_MAX];
        struct bytes last;

        if (!row)
                return -EINVAL;
        last = row->is_weierstrass ? point_bytes(key, space) : bytes_of(key->x, row->size);
        memcpy(ret, row->spki.data, row->spki.size);
        memcpy(ret + row->spki.size, last.data, last.size);
        *ret_size = row->spki.size + last.size;
        return 0;
}

static bool has_prefix(struct bytes bytes, struct bytes prefix) {
        return bytes.size >= prefix.size && bytes_equal(bytes_of(bytes.data, prefix.size), prefix);
}

enum curve spki_curve(struct bytes spki) {
        for (enum curve curve = CURVE_NONE + 1; curve < CURVES; curve++) {
                const struct curve_row *row = &curve_rows[curve];
                size_t size = row->spki.size + (row->is_weierstrass ? 1 + 2 * row->size : row->size);

                if (spki.size == size && has_prefix(spki, row->spki) &&
                    (!row->is_weierstrass || spki.data[row->spki.size] == UNCOMPRESSED))
                        return curve;
        }
        return CURVE_NONE;
}

int public_key_from_spki(struct bytes spki, struct public_key *ret) {
        struct public_key key = { .curve = spki_curve(spki) };
        const struct curve_row *row = curve_row(key.curve);
        int r;

        if (!row)
                return -EINVAL;
        if (row->is_weierstrass)
                point_coordinates(&key, spki.data + row->spki.size);
        else
                memcpy(key.x, spki.data + row->spki.size, row->size);
        if ((r = public_key_check(&key)) == 0)
                *ret = key;
        return r;
}

int public_key_thumbprint(const struct public_key *key, uint8_t ret[static THUMBPRINT_SIZE]) {
        uint8_t spki[SPKI_SIZE_MAX];
        size_t size;
        int r = public_key_spki(key, spki, &size);

        return r != 0 ? r : sha256(bytes_of(spki, size), ret);
}

int key_public(enum curve curve, struct bytes private_key, struct public_key *ret) {
        const struct curve_row *row = curve_row(curve);

        if (!row || private_key.size != row->size)
                return -EINVAL;
        return row->is_weierstrass ? weierstrass_public(curve, private_key, ret) : okp_public(curve, private_key, ret);
}

int key_generate(enum curve curve, struct public_key *ret_public, struct secret *ret_private) {
        _cleanup_(secret_done) struct secret private_key = { .size = curve_size(curve) };
        struct public_key public_key;
        int r = -EINVAL;

        if (private_key.size == 0)
                return -EINVAL;
        /* As FIPS 186-5 A.2.2: draw until it is a private key */
        for (unsigned i = 0; i < DRAWS_MAX && r == -EINVAL; i++) {
                if ((r = random_bytes(private_key.data, private_key.size)) != 0)
                        return r;
                r = key_public(curve, secret_bytes(&private_key), &public_key);
        }
        if (r != 0)
                return r == -EINVAL ? -EIO : r;
        *ret_public = public_key;
        secret_move(ret_private, &private_key);
        return 0;
}

int key_pkcs8(enum curve curve, struct bytes private_key, struct buf *out) {
        const struct curve_row *row = curve_row(curve);
        uint8_t space[POINT_SIZE_MAX], *at;
        struct public_key key;
        struct bytes point = BYTES_NONE;
        size_t size;
        int r = key_public(curve, private_key, &key);

        if (r != 0)
                return r;
        if (row->is_weierstrass)
                point = point_bytes(&key, space);
        size = row->pkcs8.size + row->size + row->between.size + point.size;
        if ((r = buf_reserve(out, size, &at)) != 0)
                return r;
        memcpy(at, row->pkcs8.data, row->pkcs8.size);
        at += row->pkcs8.size;
        memcpy(at, private_key.data, row->size);
        at += row->size;
        if (point.size > 0) {
                memcpy(at, row->between.data, row->between.size);
                memcpy(at + row->between.size, point.data, point.size);
        }
        buf_added(out, size);
        return 0;
}
