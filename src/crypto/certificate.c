#include "crypto/certificate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/secret.h"

#define PKCS8_SIZE_MAX 256
#define COMMON_NAME_MAX 64 /* RFC 5280 appendix A.1: ub-common-name */
#define EXTENSION_SIZE_MAX (CERTIFICATE_NAME_MAX + 16)

DEFINE_FREEP(X509, X509_free)
DEFINE_FREEP(EVP_PKEY, EVP_PKEY_free)

static int failed(int r) {
        ERR_clear_error();
        return r;
}

/* ---- our own */

static int private_key_read(enum curve curve, struct bytes private_key, EVP_PKEY **ret) {
        struct buf pkcs8 = BUF_INIT(PKCS8_SIZE_MAX);
        const unsigned char *at;
        int r = key_pkcs8(curve, private_key, &pkcs8);

        if (r == 0) {
                at = pkcs8.data;
                *ret = d2i_AutoPrivateKey(NULL, &at, (long)pkcs8.size);
                if (!*ret)
                        r = failed(-EINVAL);
        }
        if (pkcs8.data)
                wipe(pkcs8.data, pkcs8.capacity);
        buf_done(&pkcs8);
        return r;
}

static bool is_address(const char *host) {
        uint8_t address[16];

        return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

/* OpenSSL reads values of extensions with a syntax of its own: nothing but a name must come to it. */
static bool is_dns_name(const char *host) {
        size_t size = strlen(host);

        return size <= CERTIFICATE_NAME_MAX &&
               size == strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");
}

static bool extension_add(X509 *certificate, int nid, const char *value) {
        X509_EXTENSION *extension;
        X509V3_CTX context;
        bool done;

        X509V3_set_ctx_nodb(&context);
        X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
        extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
        done = extension && X509_add_ext(certificate, extension, -1) == 1;
        X509_EXTENSION_free(extension);
        return done;
}

static int put_names(X509 *certificate, const char *host) {
        X509_NAME *name = X509_get_subject_name(certificate);
        const char *common = *host && strlen(host) <= COMMON_NAME_MAX ? host : "aced";
        char value[EXTENSION_SIZE_MAX];

        if (*host && !is_address(host) && !is_dns_name(host))
                return -EINVAL;
        if (X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common, -1, -1, 0) != 1 ||
            X509_set_issuer_name(certificate, name) != 1)
                return -ENOMEM;
        if (!*host)
                return 0;
        (void)snprintf(value, sizeof(value), "%s:%s", is_address(host) ? "IP" : "DNS", host);
        return extension_add(certificate, NID_subject_alt_name, value) ? 0 : -ENOMEM;
}

/* RFC 5280 §4.1.2.5: this end means that there is none. */
static bool put_validity(X509 *certificate, int64_t from_s) {
        return ASN1_TIME_set(X509_getm_notBefore(certificate), (time_t)from_s) &&
               ASN1_TIME_set_string(X509_getm_notAfter(certificate), "99991231235959Z") == 1;
}

static bool put_extensions(X509 *certificate) {
        static const struct {
                int nid;
                const char *value;
        } extensions[] = {
                { NID_basic_constraints, "critical,CA:FALSE" },
                { NID_key_usage, "critical,digitalSignature" },
                { NID_ext_key_usage, "serverAuth" },
                { NID_subject_key_identifier, "hash" },
        };

        for (size_t i = 0; i < N_ELEMENTS(extensions); i++)
                if (!extension_add(certificate, extensions[i].nid, extensions[i].value))
                        return false;
        return true;
}

int certificate_make(const struct certificate_ask *ask, uint8_t *ret, size_t size, size_t *ret_size) {
        _cleanup_(EVP_PKEY_freep) EVP_PKEY *key = NULL;
        _cleanup_(X509_freep) X509 *certificate = X509_new();
        unsigned char *at = ret;
        int length, r;

        if (!certificate)
                return failed(-ENOMEM);
        if (ask->curve == CURVE_X25519 || ask->serial <= 0)
                return -EINVAL;
        if ((r = private_key_read(ask->curve, ask->private_key, &key)) != 0)
                return r;
        if (X509_set_version(certificate, X509_VERSION_3) != 1 || X509_set_pubkey(certificate, key) != 1 ||
            ASN1_INTEGER_set_int64(X509_get_serialNumber(certificate), ask->serial) != 1 ||
            !put_validity(certificate, ask->from_s))
                return failed(-ENOMEM);
        if ((r = put_names(certificate, ask->host)) != 0)
                return failed(r);
        if (!put_extensions(certificate) ||
            X509_sign(certificate, key, ask->curve == CURVE_ED25519 ? NULL : EVP_sha256()) <= 0)
                return failed(-EIO);
        length = i2d_X509(certificate, NULL);
        if (length <= 0 || (size_t)length > size)
                return failed(length <= 0 ? -ENOMEM : -EOVERFLOW);
        *ret_size = (size_t)i2d_X509(certificate, &at);
        return 0;
}

/* ---- anybody's */

static X509 *certificate_read(struct bytes der) {
        const unsigned char *at = der.data;
        X509 *certificate = der.size > 0 && der.size <= INT_MAX ? d2i_X509(NULL, &at, (long)der.size) : NULL;

        if (certificate && at == der.data + der.size)
                return certificate;
        X509_free(certificate);
        ERR_clear_error();
        return NULL;
}

static int spki_of(X509 *certificate, struct public_key *ret) {
        unsigned char *spki = NULL;
        int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &spki);
        int r = size > 0 ? public_key_from_spki(bytes_of(spki, (size_t)size), ret) : failed(-ENOMEM);

        OPENSSL_free(spki);
        return r;
}

int certificate_public_key(struct bytes der, struct public_key *ret) {
        _cleanup_(X509_freep) X509 *certificate = certificate_read(der);

        return certificate ? spki_of(certificate, ret) : -EINVAL;
}
