#include "crypto/certificate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/secret.h"

#define PKCS8_SIZE_MAX 256
#define COMMON_NAME_MAX 64 /* RFC 5280 appendix A.1: ub-common-name */
#define EXTENSION_SIZE_MAX (CERTIFICATE_NAME_MAX + 16)
#define SECURITY_BITS_MIN 112 /* RSA from 2048 bits on, SHA-256 and longer; NIST SP 800-57 */
#define AUTH_LEVEL 2          /* OpenSSL's name for the same */

DEFINE_FREEP(X509, X509_free)
DEFINE_FREEP(EVP_PKEY, EVP_PKEY_free)
DEFINE_FREEP(X509_STORE_CTX, X509_STORE_CTX_free)
DEFINE_FREEP(struct trust_anchors, trust_anchors_free)

struct trust_anchors {
        X509_STORE *store;
        size_t n;
        uint8_t hashes[TRUST_ANCHORS_MAX][SHA256_SIZE];
};

static void bio_done(BIO **bio) {
        BIO_free_all(*bio);
}

static void names_freep(GENERAL_NAMES **names) {
        GENERAL_NAMES_free(*names);
}

static void chain_freep(STACK_OF(X509) **chain) {
        sk_X509_pop_free(*chain, X509_free);
}

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

int certificate_put_pem(struct bytes der, struct buf *out) {
        _cleanup_(X509_freep) X509 *certificate = certificate_read(der);
        _cleanup_(bio_done) BIO *bio = BIO_new(BIO_s_mem());
        char *text;
        long size;

        if (!certificate)
                return -EINVAL;
        if (!bio || PEM_write_bio_X509(bio, certificate) != 1)
                return failed(-ENOMEM);
        size = BIO_get_mem_data(bio, &text);
        return buf_add(out, bytes_of(text, (size_t)size));
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

/* ---- trust anchors */

size_t trust_anchors_count(const struct trust_anchors *anchors) {
        return anchors ? anchors->n : 0;
}

bool trust_anchors_have(const struct trust_anchors *anchors, const uint8_t hash[static SHA256_SIZE]) {
        for (size_t i = 0; i < trust_anchors_count(anchors); i++)
                if (memcmp(anchors->hashes[i], hash, SHA256_SIZE) == 0)
                        return true;
        return false;
}

static bool certificate_hash(const X509 *certificate, uint8_t ret[static SHA256_SIZE]) {
        return X509_digest(certificate, EVP_sha256(), ret, NULL) == 1;
}

void trust_anchors_free(struct trust_anchors *anchors) {
        if (!anchors)
                return;
        X509_STORE_free(anchors->store);
        free(anchors);
}

/* One PEM block of any kind. 0, and data that is NULL at the end. */
static int next_block(BIO *bio, const char *file, size_t n, char **ret_name, unsigned char **ret_data, long *ret_size,
                      struct diags *faults) {
        char *header = NULL;
        unsigned long error;

        *ret_name = NULL;
        *ret_data = NULL;
        if (PEM_read_bio(bio, ret_name, &header, ret_data, ret_size) == 1) {
                OPENSSL_free(header);
                return 0;
        }
        error = ERR_peek_last_error();
        ERR_clear_error();
        if (ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE)
                return 0;
        return diags_add(faults, file, 0, "block %zu is no PEM", n) < 0 ? -ENOMEM : -EINVAL;
}

static int anchor_add(struct trust_anchors *anchors, const char *file, size_t n, const char *name, struct bytes der,
                      struct diags *faults) {
        bool is_certificate = strcmp(name, PEM_STRING_X509) == 0 || strcmp(name, PEM_STRING_X509_OLD) == 0;
        _cleanup_(X509_freep) X509 *certificate = is_certificate ? certificate_read(der) : NULL;
        EVP_PKEY *key = certificate ? X509_get0_pubkey(certificate) : NULL;

        if (!key)
                return diags_add(faults, file, 0, "block %zu (%.32s) is no certificate that can be read", n, name);
        if (EVP_PKEY_get_security_bits(key) < SECURITY_BITS_MIN)
                return diags_add(faults, file, 0, "certificate %zu has a key of %d bits of strength, %d are needed", n,
                                 EVP_PKEY_get_security_bits(key), SECURITY_BITS_MIN);
        if (anchors->n == TRUST_ANCHORS_MAX)
                return n == TRUST_ANCHORS_MAX + 1 ? diags_add(faults, file, 0, "more than %d certificates",
                                                              TRUST_ANCHORS_MAX) : 0;
        if (X509_STORE_add_cert(anchors->store, certificate) != 1 ||
            !certificate_hash(certificate, anchors->hashes[anchors->n]))
                return failed(-ENOMEM);
        anchors->n++;
        return 0;
}

static int read_anchors(struct trust_anchors *anchors, BIO *bio, const char *file, struct diags *faults) {
        unsigned char *data;
        long size = 0;
        char *name;
        int r;

        for (size_t n = 1;; n++) {
                r = next_block(bio, file, n, &name, &data, &size, faults);
                if (r != 0 || !data)
                        return r;
                r = anchor_add(anchors, file, n, name, bytes_of(data, (size_t)size), faults);
                OPENSSL_free(name);
                OPENSSL_clear_free(data, (size_t)size); /* a private key that got in by mistake */
                if (r != 0)
                        return r;
        }
}

int trust_anchors_new(struct bytes pem, const char *file, struct trust_anchors **ret, struct diags *faults) {
        _cleanup_(trust_anchors_freep) struct trust_anchors *anchors = calloc(1, sizeof(*anchors));
        _cleanup_(bio_done) BIO *bio = pem.size <= INT_MAX ? BIO_new_mem_buf(pem.data ? (const void *)pem.data : "",
                                                                              (int)pem.size) : NULL;
        size_t n_before = faults->n_items;
        int r;

        if (!anchors || !bio || !(anchors->store = X509_STORE_new()))
                return failed(-ENOMEM);
        r = read_anchors(anchors, bio, file, faults);
        if (r == 0 && anchors->n == 0 && faults->n_items == n_before)
                r = diags_add(faults, file, 0, "there is no certificate in it (PEM is expected)");
        if (r != 0)
                return r;
        if (faults->n_items > n_before)
                return -EINVAL;
        *ret = TAKE_PTR(anchors);
        return 0;
}

/* ---- a client's chain */

const char *certificate_fault_text(enum certificate_fault fault) {
        static const char *const texts[CERTIFICATE_FAULTS] = {
                [CERTIFICATE_GOOD] = "good",
                [CERTIFICATE_MALFORMED] = "cannot be read",
                [CERTIFICATE_FOREIGN] = "leads to no trust anchor",
                [CERTIFICATE_EXPIRED] = "has expired",
                [CERTIFICATE_NOT_YET] = "is not yet valid",
                [CERTIFICATE_CHAIN_TOO_LONG] = "has too long a chain",
                [CERTIFICATE_SIGNATURE] = "has a signature that does not verify",
                [CERTIFICATE_WEAK] = "rests on a weak key or hash",
                [CERTIFICATE_KEY] = "has a key that is not on P-256 or Ed25519",
                [CERTIFICATE_PURPOSE] = "is not for this purpose",
                [CERTIFICATE_OTHER] = "breaks a rule of RFC 5280",
        };

        return texts[fault];
}

static enum certificate_fault fault_of(int error) {
        static const struct {
                int error;
                enum certificate_fault fault;
        } faults[] = {
                { X509_V_OK, CERTIFICATE_GOOD },
                { X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, CERTIFICATE_FOREIGN },
                { X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, CERTIFICATE_FOREIGN },
                { X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, CERTIFICATE_FOREIGN },
                { X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, CERTIFICATE_FOREIGN },
                { X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, CERTIFICATE_FOREIGN },
                { X509_V_ERR_CERT_UNTRUSTED, CERTIFICATE_FOREIGN },
                { X509_V_ERR_CERT_HAS_EXPIRED, CERTIFICATE_EXPIRED },
                { X509_V_ERR_CERT_NOT_YET_VALID, CERTIFICATE_NOT_YET },
                { X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD, CERTIFICATE_MALFORMED },
                { X509_V_ERR_ERROR_IN_CERT_NOT_AFTER_FIELD, CERTIFICATE_MALFORMED },
                { X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY, CERTIFICATE_MALFORMED },
                { X509_V_ERR_CERT_CHAIN_TOO_LONG, CERTIFICATE_CHAIN_TOO_LONG },
                { X509_V_ERR_CERT_SIGNATURE_FAILURE, CERTIFICATE_SIGNATURE },
                { X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE, CERTIFICATE_SIGNATURE },
                { X509_V_ERR_EE_KEY_TOO_SMALL, CERTIFICATE_WEAK },
                { X509_V_ERR_CA_KEY_TOO_SMALL, CERTIFICATE_WEAK },
                { X509_V_ERR_CA_MD_TOO_WEAK, CERTIFICATE_WEAK },
                { X509_V_ERR_INVALID_PURPOSE, CERTIFICATE_PURPOSE },
                { X509_V_ERR_INVALID_CA, CERTIFICATE_PURPOSE },
                { X509_V_ERR_INVALID_NON_CA, CERTIFICATE_PURPOSE },
                { X509_V_ERR_PATH_LENGTH_EXCEEDED, CERTIFICATE_PURPOSE },
                { X509_V_ERR_KEYUSAGE_NO_CERTSIGN, CERTIFICATE_PURPOSE },
                { X509_V_ERR_CERT_REJECTED, CERTIFICATE_PURPOSE },
        };

        for (size_t i = 0; i < N_ELEMENTS(faults); i++)
                if (faults[i].error == error)
                        return faults[i].fault;
        return CERTIFICATE_OTHER;
}

/* NULL: *ret_r is -EINVAL for what cannot be read, or -ENOMEM. */
static STACK_OF(X509) *read_chain(const struct bytes *chain, size_t n, int *ret_r) {
        STACK_OF(X509) *stack = sk_X509_new_null();

        *ret_r = stack ? 0 : -ENOMEM;
        for (size_t i = 0; *ret_r == 0 && i < n; i++) {
                X509 *certificate = certificate_read(chain[i]);

                *ret_r = !certificate ? -EINVAL : sk_X509_push(stack, certificate) > 0 ? 0 : -ENOMEM;
                if (*ret_r == -ENOMEM)
                        X509_free(certificate);
        }
        if (*ret_r == 0)
                return stack;
        sk_X509_pop_free(stack, X509_free);
        ERR_clear_error();
        return NULL;
}

/* What TLS_ECDHE_ECDSA_* wants of the peer's own certificate (RFC 8422 §5.3, RFC 5280 §4.2.1.3). */
static enum certificate_fault judge_own(X509 *certificate, struct public_key *ret_key) {
        if (spki_of(certificate, ret_key) != 0 || (ret_key->curve != CURVE_P256 && ret_key->curve != CURVE_ED25519))
                return CERTIFICATE_KEY;
        /* without the extension all bits are set */
        return X509_get_key_usage(certificate) & KU_DIGITAL_SIGNATURE ? CERTIFICATE_GOOD : CERTIFICATE_PURPOSE;
}

/* False: not a time of this calendar. */
static bool read_time(const ASN1_TIME *time, int64_t *ret_s) {
        struct tm tm;

        if (ASN1_TIME_to_tm(time, &tm) != 1)
                return false;
        *ret_s = timegm(&tm);
        return true;
}

/* The time that all of the path agree on; none at all where one cannot be read. The last is the trust anchor. */
static struct certificate_path path_of(const STACK_OF(X509) *chain) {
        struct certificate_path path = { .from_s = INT64_MIN, .until_s = INT64_MAX };
        int64_t from_s, until_s;

        for (int i = 0; i < sk_X509_num(chain); i++) {
                const X509 *certificate = sk_X509_value(chain, i);

                if (!read_time(X509_get0_notBefore(certificate), &from_s) ||
                    !read_time(X509_get0_notAfter(certificate), &until_s) ||
                    !certificate_hash(certificate, path.anchor))
                        return (struct certificate_path){ .from_s = INT64_MAX, .until_s = INT64_MIN };
                path.from_s = from_s > path.from_s ? from_s : path.from_s;
                path.until_s = until_s < path.until_s ? until_s : path.until_s;
        }
        return path;
}

static int judge_path(const struct trust_anchors *anchors, STACK_OF(X509) *chain, int64_t now_s,
                      struct certificate_path *ret_path, enum certificate_fault *ret_fault) {
        _cleanup_(X509_STORE_CTX_freep) X509_STORE_CTX *context = X509_STORE_CTX_new();
        X509_VERIFY_PARAM *rules;
        int error;

        if (!context || X509_STORE_CTX_init(context, anchors->store, sk_X509_value(chain, 0), chain) != 1)
                return failed(-ENOMEM);
        rules = X509_STORE_CTX_get0_param(context);
        X509_VERIFY_PARAM_set_time(rules, (time_t)now_s);
        X509_VERIFY_PARAM_set_depth(rules, CERTIFICATE_INTERMEDIATES_MAX);
        X509_VERIFY_PARAM_set_auth_level(rules, AUTH_LEVEL);
        if (X509_VERIFY_PARAM_set_flags(rules, X509_V_FLAG_PARTIAL_CHAIN) != 1 ||
            X509_VERIFY_PARAM_set_purpose(rules, X509_PURPOSE_SSL_CLIENT) != 1)
                return failed(-ENOMEM);
        error = X509_verify_cert(context) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(context);
        ERR_clear_error();
        if (error == X509_V_ERR_OUT_OF_MEM)
                return -ENOMEM;
        *ret_fault = fault_of(error);
        if (error == X509_V_OK)
                *ret_path = path_of(X509_STORE_CTX_get0_chain(context));
        return 0;
}

static int judge(const struct trust_anchors *anchors, const struct bytes *chain, size_t n, int64_t now_s,
                 STACK_OF(X509) **ret_stack, struct public_key *ret_key, struct certificate_path *ret_path,
                 enum certificate_fault *ret_fault) {
        STACK_OF(X509) *stack;
        int r;

        *ret_stack = NULL;
        *ret_fault = n == 0 ? CERTIFICATE_MALFORMED : CERTIFICATE_CHAIN_TOO_LONG;
        if (n == 0 || n > CERTIFICATE_CHAIN_MAX)
                return 0;
        stack = *ret_stack = read_chain(chain, n, &r);
        if (r == -EINVAL)
                *ret_fault = CERTIFICATE_MALFORMED;
        if (r != 0)
                return r == -EINVAL ? 0 : r;
        *ret_fault = judge_own(sk_X509_value(stack, 0), ret_key);
        if (*ret_fault != CERTIFICATE_GOOD)
                return 0;
        *ret_fault = CERTIFICATE_FOREIGN;
        return anchors ? judge_path(anchors, stack, now_s, ret_path, ret_fault) : 0;
}

int certificate_judge(const struct trust_anchors *anchors, const struct bytes *chain, size_t n, int64_t now_s,
                      enum certificate_fault *ret_fault) {
        _cleanup_(chain_freep) STACK_OF(X509) *stack = NULL;
        struct certificate_path path;
        struct public_key key;

        return judge(anchors, chain, n, now_s, &stack, &key, &path, ret_fault);
}

/* ---- what a certificate is known by */

struct rules {
        int (*row)(void *context, struct bytes rule);
        void *context;
};

static int tell(const struct rules *rules, const char *kind, struct bytes value, bool fold_case) {
        uint8_t rule[CERTIFICATE_NAME_MAX];
        size_t kind_size = strlen(kind);

        if (value.size == 0 || kind_size + value.size > sizeof(rule) || !bytes_are_shown(value))
                return 0;
        memcpy(rule, kind, kind_size);
        for (size_t i = 0; i < value.size; i++) {
                uint8_t c = value.data[i];

                rule[kind_size + i] = fold_case && c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
        }
        return rules->row(rules->context, bytes_of(rule, kind_size + value.size));
}

static int tell_key(const struct rules *rules, const struct public_key *key) {
        uint8_t thumbprint[THUMBPRINT_SIZE];
        char hex[2 * THUMBPRINT_SIZE + 1];

        if (public_key_thumbprint(key, thumbprint) != 0)
                return 0;
        bytes_to_hex(bytes_of(thumbprint, sizeof(thumbprint)), hex, sizeof(hex));
        return tell(rules, "spki:", bytes_text(hex), false);
}

static int tell_address(const struct rules *rules, struct bytes address) {
        char text[INET6_ADDRSTRLEN];

        if (address.size != 4 && address.size != 16)
                return 0;
        if (!inet_ntop(address.size == 4 ? AF_INET : AF_INET6, address.data, text, sizeof(text)))
                return 0;
        return tell(rules, "ip:", bytes_text(text), false);
}

static int tell_name(const struct rules *rules, const GENERAL_NAME *name) {
        int type;
        const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);
        struct bytes bytes;

        if (type != GEN_DNS && type != GEN_URI && type != GEN_EMAIL && type != GEN_IPADD)
                return 0;
        bytes = bytes_of(ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value));
        switch (type) {
        case GEN_DNS:
                return tell(rules, "dns:", bytes, true);
        case GEN_URI:
                return tell(rules, "uri:", bytes, false);
        case GEN_EMAIL:
                return tell(rules, "email:", bytes, false);
        default:
                return tell_address(rules, bytes);
        }
}

static int tell_names(const struct rules *rules, X509 *certificate) {
        _cleanup_(names_freep) GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
        int r = 0;

        for (int i = 0; r == 0 && i < sk_GENERAL_NAME_num(names) && i < CERTIFICATE_NAMES_MAX; i++)
                r = tell_name(rules, sk_GENERAL_NAME_value(names, i));
        return r;
}

/* RFC 4514, the last part first, in UTF-8. */
static int tell_subject(const struct rules *rules, X509 *certificate) {
        _cleanup_(bio_done) BIO *bio = BIO_new(BIO_s_mem());
        char *text;
        long size;

        if (!bio)
                return failed(-ENOMEM);
        if (X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) < 0)
                return failed(0);
        size = BIO_get_mem_data(bio, &text);
        return tell(rules, "subject:", bytes_of(text, size > 0 ? (size_t)size : 0), false);
}

/* key NULL: it is none of ours. */
static int tell_all(const struct rules *rules, X509 *certificate, const struct public_key *key) {
        int r;

        if ((key && (r = tell_key(rules, key)) != 0) || (r = tell_names(rules, certificate)) != 0 ||
            (r = tell_subject(rules, certificate)) != 0)
                return r;
        ERR_clear_error();
        return 0;
}

int certificate_rules(struct bytes der, int (*row)(void *context, struct bytes rule), void *context) {
        _cleanup_(X509_freep) X509 *certificate = certificate_read(der);
        const struct rules rules = { row, context };
        struct public_key key;

        if (!certificate)
                return -EINVAL;
        return tell_all(&rules, certificate, spki_of(certificate, &key) == 0 ? &key : NULL);
}

int certificate_take(const struct trust_anchors *anchors, const struct bytes *chain, size_t n, int64_t now_s,
                     int (*row)(void *context, struct bytes rule), void *context, struct public_key *ret_key,
                     struct certificate_path *ret_path, enum certificate_fault *ret_fault) {
        _cleanup_(chain_freep) STACK_OF(X509) *stack = NULL;
        const struct rules rules = { row, context };
        int r = judge(anchors, chain, n, now_s, &stack, ret_key, ret_path, ret_fault);

        return r != 0 || *ret_fault != CERTIFICATE_GOOD ? r : tell_all(&rules, sk_X509_value(stack, 0), ret_key);
}
