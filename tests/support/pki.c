#include "pki.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#define FROM_S 978307200
#define UNTIL_S 4070908800
#define MUST(what)       \
        do {             \
                if (!(what)) \
                        abort(); \
        } while (0)

struct pki {
        X509 *certificate;
        EVP_PKEY *key;
        unsigned char *der, *spki, *pkcs8;
        int der_size, spki_size, pkcs8_size;
};

static EVP_PKEY *key_new(const struct pki_ask *ask) {
        EVP_PKEY *key;

        if (ask->rsa_bits > 0)
                key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)ask->rsa_bits);
        else if (ask->curve == CURVE_ED25519)
                key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
        else
                key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", ask->curve == CURVE_P384 ? "P-384" : "P-256");
        MUST(key);
        return key;
}

static void extend(X509 *certificate, X509 *issuer, int nid, const char *value) {
        X509_EXTENSION *extension;
        X509V3_CTX context;

        if (!value)
                return;
        X509V3_set_ctx_nodb(&context);
        X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
        extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
        MUST(extension && X509_add_ext(certificate, extension, -1) == 1);
        X509_EXTENSION_free(extension);
}

static void fill(struct pki *pki, const struct pki_ask *ask) {
        static int64_t serial = 1000;
        X509 *issuer = ask->issuer ? ask->issuer->certificate : pki->certificate;
        X509_NAME *name = X509_get_subject_name(pki->certificate);

        MUST(X509_set_version(pki->certificate, X509_VERSION_3) == 1 &&
             ASN1_INTEGER_set_int64(X509_get_serialNumber(pki->certificate), serial++) == 1 &&
             X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)ask->subject, -1, -1,
                                        0) == 1 &&
             X509_set_issuer_name(pki->certificate, X509_get_subject_name(issuer)) == 1 &&
             X509_set_pubkey(pki->certificate, pki->key) == 1 &&
             ASN1_TIME_set(X509_getm_notBefore(pki->certificate), (time_t)(ask->from_s ? ask->from_s : FROM_S)) &&
             ASN1_TIME_set(X509_getm_notAfter(pki->certificate), (time_t)(ask->until_s ? ask->until_s : UNTIL_S)));
        extend(pki->certificate, issuer, NID_basic_constraints, ask->constraints);
        extend(pki->certificate, issuer, NID_key_usage, ask->usage);
        extend(pki->certificate, issuer, NID_ext_key_usage, ask->purposes);
        extend(pki->certificate, issuer, NID_subject_alt_name, ask->names);
}

struct pki *pki_new(const struct pki_ask *ask) {
        struct pki *pki = calloc(1, sizeof(*pki));
        EVP_PKEY *signer;
        const EVP_MD *digest;

        MUST(pki);
        pki->key = key_new(ask);
        pki->certificate = X509_new();
        MUST(pki->certificate);
        fill(pki, ask);
        signer = ask->issuer ? ask->issuer->key : pki->key;
        digest = EVP_PKEY_is_a(signer, "ED25519") ? NULL : EVP_get_digestbyname(ask->digest ? ask->digest : "SHA256");
        MUST(X509_sign(pki->certificate, signer, digest) > 0);
        pki->der_size = i2d_X509(pki->certificate, &pki->der);
        pki->spki_size = i2d_PUBKEY(pki->key, &pki->spki);
        PKCS8_PRIV_KEY_INFO *pkcs8 = EVP_PKEY2PKCS8(pki->key);
        MUST(pkcs8);
        pki->pkcs8_size = i2d_PKCS8_PRIV_KEY_INFO(pkcs8, &pki->pkcs8);
        PKCS8_PRIV_KEY_INFO_free(pkcs8);
        MUST(pki->der_size > 0 && pki->spki_size > 0 && pki->pkcs8_size > 0);
        return pki;
}

void pki_free(struct pki *pki) {
        if (!pki)
                return;
        OPENSSL_free(pki->der);
        OPENSSL_free(pki->spki);
        OPENSSL_free(pki->pkcs8);
        X509_free(pki->certificate);
        EVP_PKEY_free(pki->key);
        free(pki);
}

struct bytes pki_der(const struct pki *pki) {
        return bytes_of(pki->der, (size_t)pki->der_size);
}

struct bytes pki_spki(const struct pki *pki) {
        return bytes_of(pki->spki, (size_t)pki->spki_size);
}

struct bytes pki_pkcs8(const struct pki *pki) {
        return bytes_of(pki->pkcs8, (size_t)pki->pkcs8_size);
}

void pki_put_pem(const struct pki *pki, struct buf *out) {
        BIO *bio = BIO_new(BIO_s_mem());
        char *text;
        long size;

        MUST(bio && PEM_write_bio_X509(bio, pki->certificate) == 1);
        size = BIO_get_mem_data(bio, &text);
        MUST(size > 0 && buf_add(out, bytes_of(text, (size_t)size)) == 0);
        BIO_free_all(bio);
}
