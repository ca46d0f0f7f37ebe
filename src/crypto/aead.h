#pragma once

#include "base/bytes.h"

/* The AEADs of COSE (RFC 9053 §4) that we use. */
enum aead_alg {
        AEAD_NONE,
        AEAD_AES_CCM_16_64_128,
        AEAD_AES_CCM_16_128_128,
        AEAD_A128GCM,
        AEAD_A256GCM,
        AEAD_CHACHA20_POLY1305,
};

#define AEAD_NONCE_SIZE_MAX 13
#define AEAD_TAG_SIZE_MAX 16

struct aead_info {
        size_t key_size;
        size_t nonce_size;
        size_t tag_size;
};

/* Sizes in bytes; NULL for a number that is none of ours. */
const struct aead_info *aead_info(enum aead_alg alg);

/* As RFC 9053 §4 calls them, without what would need quoting: "AES-CCM-16-64-128"; NULL. The reverse: AEAD_NONE. */
const char *aead_name(enum aead_alg alg);
enum aead_alg aead_from_name(const char *name);

/*
 * Encrypt plain under key and nonce, authenticating aad too. ret_cipher has room for plain.size + tag_size bytes and
 * gets ciphertext ‖ tag; it may begin where plain does, else must not overlap it. Key and nonce have exactly the sizes of
 * aead_info(), else -EINVAL. -EIO: OpenSSL failed.
 */
int aead_seal(enum aead_alg alg, struct bytes key, struct bytes nonce, struct bytes aad, struct bytes plain,
              uint8_t *ret_cipher);

/*
 * Decrypt and check ciphertext ‖ tag. ret_plain has room for cipher.size - tag_size bytes. Returns 0; -EBADMSG when
 * it does not authenticate (ret_plain is wiped); -EINVAL, -EIO as above.
 */
int aead_open(enum aead_alg alg, struct bytes key, struct bytes nonce, struct bytes aad, struct bytes cipher,
              uint8_t *ret_plain);

/*
 * What a call sets up but for the key, kept for the next ones: for keys that come and go. aead_free() wipes what it has
 * of the last ones. NULL: no memory.
 */
struct aead;

struct aead *aead_new(void);
void aead_free(struct aead *aead);
/* The key that was used last is in it until then. */
void aead_forget(struct aead *aead);

/* As aead_seal() and aead_open(), which they are with aead NULL. */
int aead_seal_with(struct aead *aead, enum aead_alg alg, struct bytes key, struct bytes nonce, struct bytes aad,
                   struct bytes plain, uint8_t *ret_cipher);
int aead_open_with(struct aead *aead, enum aead_alg alg, struct bytes key, struct bytes nonce, struct bytes aad,
                   struct bytes cipher, uint8_t *ret_plain);

/*
 * A key set up once for many calls: two thirds of a call on short data are setting up. Not for CCM, which is set up
 * anew for each message's length (-EINVAL). The key is copied; aead_key_free() wipes it. 0, -EINVAL (size too),
 * -ENOMEM, -EIO.
 */
struct aead_key;

int aead_key_new(enum aead_alg alg, struct bytes key, struct aead_key **ret);
void aead_key_free(struct aead_key *key);

/* As aead_seal() and aead_open(). */
int aead_key_seal(struct aead_key *key, struct bytes nonce, struct bytes aad, struct bytes plain, uint8_t *ret_cipher);
int aead_key_open(struct aead_key *key, struct bytes nonce, struct bytes aad, struct bytes cipher, uint8_t *ret_plain);
