#include "crypto/pem.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/cleanup.h"
#include "base/secret.h"
#include "crypto/certificate.h"

#define PKCS8_SIZE_MAX 256

DEFINE_FREEP(EVP_PKEY, EVP_PKEY_free)

static void bio_done(BIO **bio) {
        BIO_free_all(*bio);
}

struct block {
        char *name, *header;
        unsigned char *data;
        long size;
};

/* It may have been a private key. */
static void block_done(struct block *block) {
        OPENSSL_free(block->name);
        OPENSSL_free(block->header);
        OPENSSL_clear_free(block->data, (size_t)block->size);
}

static int private_public(const struct block *block, struct public_key *ret) {
        const unsigned char *at = block->data;
        _cleanup_(EVP_PKEY_freep) EVP_PKEY *pair = d2i_AutoPrivateKey(NULL, &at, block->size);
        unsigned char *spki = NULL;
        int size, r;

        if (!pair)
                return -EINVAL;
        if ((size = i2d_PUBKEY(pair, &spki)) < 0)
                return -ENOMEM;
        r = public_key_from_spki(bytes_of(spki, (size_t)size), ret);
        OPENSSL_free(spki);
        return r;
}

static int block_public(const struct block *block, struct public_key *ret) {
        struct bytes data = bytes_of(block->data, (size_t)block->size);

        if (strcmp(block->name, PEM_STRING_PUBLIC) == 0)
                return public_key_from_spki(data, ret);
        if (strcmp(block->name, PEM_STRING_X509) == 0)
                return certificate_public_key(data, ret);
        if (strcmp(block->name, PEM_STRING_PKCS8INF) == 0 || strcmp(block->name, PEM_STRING_ECPRIVATEKEY) == 0)
                return private_public(block, ret);
        return -EINVAL;
}

int pem_public_key(struct bytes pem, struct public_key *ret) {
        _cleanup_(bio_done) BIO *bio = NULL;
        int r = -EINVAL;

        if (pem.size > INT_MAX)
                return -EINVAL;
        if (!(bio = BIO_new_mem_buf(pem.data, (int)pem.size)))
                return -ENOMEM;
        while (r == -EINVAL) {
                _cleanup_(block_done) struct block block = {};

                if (PEM_read_bio(bio, &block.name, &block.header, &block.data, &block.size) != 1)
                        break;
                r = block_public(&block, ret);
        }
        ERR_clear_error();
        return r;
}

#define LINE_SIZE 48 /* bytes that make a line of 64 characters */

static int put_block(const char *label, struct bytes data, struct buf *out) {
        unsigned char line[4 * LINE_SIZE / 3 + 1]; /* and the zero byte that OpenSSL writes */
        int r = buf_printf(out, "-----BEGIN %s-----\n", label);

        for (size_t at = 0; r == 0 && at < data.size; at += LINE_SIZE) {
                size_t size = data.size - at < LINE_SIZE ? data.size - at : LINE_SIZE;

                EVP_EncodeBlock(line, data.data + at, (int)size);
                if ((r = buf_add(out, bytes_text((const char *)line))) == 0)
                        r = buf_add_byte(out, '\n');
        }
        wipe(line, sizeof(line));
        return r ?: buf_printf(out, "-----END %s-----\n", label);
}

int pem_put_private_key(enum curve curve, struct bytes private_key, struct buf *out) {
        _cleanup_(buf_done) struct buf pkcs8 = BUF_INIT(PKCS8_SIZE_MAX);
        uint8_t *space;
        int r;

        /* all room at once, in both: a buffer that grows later gives memory up with the key in it */
        if ((r = buf_reserve(&pkcs8, PKCS8_SIZE_MAX, &space)) != 0 ||
            (r = buf_reserve(out, 2 * PKCS8_SIZE_MAX, &space)) != 0)
                return r;
        r = key_pkcs8(curve, private_key, &pkcs8) ?: put_block(PEM_STRING_PKCS8INF, buf_bytes(&pkcs8), out);
        wipe(pkcs8.data, pkcs8.capacity);
        return r;
}

int pem_put_public_key(const struct public_key *key, struct buf *out) {
        uint8_t spki[SPKI_SIZE_MAX];
        size_t size;

        return public_key_spki(key, spki, &size) ?: put_block(PEM_STRING_PUBLIC, bytes_of(spki, size), out);
}
