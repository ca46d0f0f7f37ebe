#pragma once

/* Every registered integer that we use, grouped by registry. Sources: RFC 9200, 9201, 8392, 8747, 9052, 9053, 7252. */

/* CoAP Content-Formats */
enum {
        CF_NONE = -1,
        CF_TEXT_PLAIN = 0,
        CF_LINK_FORMAT = 40,
        CF_OCTET_STREAM = 42,
        CF_JSON = 50,
        CF_CBOR = 60,
        CF_JSON_LINES = 65000, /* experimental use, and not on the wire: application/x-ndjson at the control socket */
        CF_ACE_CBOR = 19,
        CF_PROBLEM = 257,
        CF_ACE_TRL = 262,
};

/* CoAP codes, as their byte */
#define COAP_CODE_BYTE(class, detail) ((class) << 5 | (detail))
enum {
        CODE_EMPTY = 0,
        CODE_GET = 1,
        CODE_POST = 2,
        CODE_PUT = 3,
        CODE_DELETE = 4,
        CODE_FETCH = 5,
        CODE_PATCH = 6,
        CODE_IPATCH = 7,
        CODE_CREATED = COAP_CODE_BYTE(2, 1),
        CODE_DELETED = COAP_CODE_BYTE(2, 2),
        CODE_CHANGED = COAP_CODE_BYTE(2, 4),
        CODE_CONTENT = COAP_CODE_BYTE(2, 5),
        CODE_CONTINUE = COAP_CODE_BYTE(2, 31),
        CODE_BAD_REQUEST = COAP_CODE_BYTE(4, 0),
        CODE_UNAUTHORIZED = COAP_CODE_BYTE(4, 1),
        CODE_BAD_OPTION = COAP_CODE_BYTE(4, 2),
        CODE_FORBIDDEN = COAP_CODE_BYTE(4, 3),
        CODE_NOT_FOUND = COAP_CODE_BYTE(4, 4),
        CODE_METHOD_NOT_ALLOWED = COAP_CODE_BYTE(4, 5),
        CODE_NOT_ACCEPTABLE = COAP_CODE_BYTE(4, 6),
        CODE_INCOMPLETE = COAP_CODE_BYTE(4, 8),
        CODE_CONFLICT = COAP_CODE_BYTE(4, 9),
        CODE_TOO_LARGE = COAP_CODE_BYTE(4, 13),
        CODE_UNSUPPORTED_FORMAT = COAP_CODE_BYTE(4, 15),
        CODE_TOO_MANY_REQUESTS = COAP_CODE_BYTE(4, 29),
        CODE_INTERNAL_ERROR = COAP_CODE_BYTE(5, 0),
        CODE_UNAVAILABLE = COAP_CODE_BYTE(5, 3),
        CODE_PROXYING_NOT_SUPPORTED = COAP_CODE_BYTE(5, 5),
};

/* CoAP option numbers */
enum {
        OPTION_IF_MATCH = 1,
        OPTION_URI_HOST = 3,
        OPTION_ETAG = 4,
        OPTION_IF_NONE_MATCH = 5,
        OPTION_OBSERVE = 6,
        OPTION_URI_PORT = 7,
        OPTION_LOCATION_PATH = 8,
        OPTION_OSCORE = 9,
        OPTION_URI_PATH = 11,
        OPTION_CONTENT_FORMAT = 12,
        OPTION_MAX_AGE = 14,
        OPTION_URI_QUERY = 15,
        OPTION_HOP_LIMIT = 16,
        OPTION_ACCEPT = 17,
        OPTION_EDHOC = 21,
        OPTION_BLOCK2 = 23,
        OPTION_BLOCK1 = 27,
        OPTION_SIZE2 = 28,
        OPTION_PROXY_URI = 35,
        OPTION_PROXY_SCHEME = 39,
        OPTION_SIZE1 = 60,
        OPTION_ECHO = 252,
        OPTION_NO_RESPONSE = 258,
        OPTION_REQUEST_TAG = 292,
};

/* OAuth Parameters CBOR Mappings: token endpoint (RFC 9200 §5.8.5, RFC 9201 §6) */
enum {
        ACE_ACCESS_TOKEN = 1,
        ACE_EXPIRES_IN = 2,
        ACE_REQ_CNF = 4,
        ACE_AUDIENCE = 5,
        ACE_CNF = 8,
        ACE_SCOPE = 9,
        ACE_CLIENT_ID = 24,
        ACE_ERROR = 30,
        ACE_ERROR_DESCRIPTION = 31,
        ACE_ERROR_URI = 32,
        ACE_GRANT_TYPE = 33,
        ACE_TOKEN_TYPE = 34,
        ACE_REFRESH_TOKEN = 37,
        ACE_PROFILE = 38,
        ACE_CNONCE = 39,
        ACE_RS_CNF = 41,
};

/* error values (RFC 9200 §5.8.3) */
enum {
        ACE_INVALID_REQUEST = 1,
        ACE_INVALID_CLIENT = 2,
        ACE_INVALID_GRANT = 3,
        ACE_UNAUTHORIZED_CLIENT = 4,
        ACE_UNSUPPORTED_GRANT_TYPE = 5,
        ACE_INVALID_SCOPE = 6,
        ACE_UNSUPPORTED_POP_KEY = 7,
        ACE_INCOMPATIBLE_PROFILES = 8,
};

/* grant_type (RFC 9200 §5.8.4.1) */
enum { GRANT_PASSWORD = 0, GRANT_AUTHORIZATION_CODE = 1, GRANT_CLIENT_CREDENTIALS = 2, GRANT_REFRESH_TOKEN = 3 };

/* token_type (RFC 9200 §8.7.1) */
enum { TOKEN_TYPE_BEARER = 1, TOKEN_TYPE_POP = 2 };

/* Introspection (RFC 9200 §5.9.4) */
enum {
        INTRO_ISS = 1,
        INTRO_SUB = 2,
        INTRO_AUD = 3,
        INTRO_EXP = 4,
        INTRO_NBF = 5,
        INTRO_IAT = 6,
        INTRO_CTI = 7,
        INTRO_CNF = 8,
        INTRO_SCOPE = 9,
        INTRO_ACTIVE = 10,
        INTRO_TOKEN = 11,
        INTRO_CLIENT_ID = 24,
        INTRO_TOKEN_TYPE_HINT = 33,
        INTRO_TOKEN_TYPE = 34,
        INTRO_PROFILE = 38,
        INTRO_CNONCE = 39,
        INTRO_EXI = 40,
};

/* Token revocation list (RFC 9770 §14.1), and its errors in problem details (RFC 9770 §6.1, RFC 9290 §2) */
enum { TRL_FULL_SET = 0, TRL_DIFF_SET = 1, TRL_CURSOR = 2, TRL_MORE = 3 };
enum { PROBLEM_ACE_TRL_ERROR = 1 };
enum { TRL_ERROR_ID = 0, TRL_ERROR_CURSOR = 1 };
enum { TRL_ERROR_VALUE = 0, TRL_ERROR_SET = 1, TRL_ERROR_OUT_OF_BOUND = 2 };

/* CWT claims (RFC 8392 §9.1, RFC 8747 §7, RFC 9200 §8.14) */
enum {
        CLAIM_ISS = 1,
        CLAIM_SUB = 2,
        CLAIM_AUD = 3,
        CLAIM_EXP = 4,
        CLAIM_NBF = 5,
        CLAIM_IAT = 6,
        CLAIM_CTI = 7,
        CLAIM_CNF = 8,
        CLAIM_SCOPE = 9,
        CLAIM_PROFILE = 38,
        CLAIM_CNONCE = 39,
        CLAIM_EXI = 40,
};

/* CWT confirmation methods (RFC 8747 §7.2, RFC 9203 §9.5) */
enum { CNF_COSE_KEY = 1, CNF_ENCRYPTED_COSE_KEY = 2, CNF_KID = 3, CNF_OSC = 4 };

/* OSCORE Security Context Parameters (RFC 9203 §9.4); hkdf is the number of the HMAC algorithm */
enum { OSC_ID = 0, OSC_VERSION = 1, OSC_MS = 2, OSC_HKDF = 3, OSC_ALG = 4, OSC_SALT = 5, OSC_CONTEXT_ID = 6 };

/* COSE key parameters and key types (RFC 9052 §7, RFC 9053 §7) */
enum { KEY_KTY = 1, KEY_KID = 2, KEY_ALG = 3, KEY_OPS = 4, KEY_K = -1, KEY_CRV = -1, KEY_X = -2, KEY_Y = -3,
       KEY_D = -4 };
enum { KTY_OKP = 1, KTY_EC2 = 2, KTY_SYMMETRIC = 4 };
enum { CRV_P256 = 1, CRV_P384 = 2, CRV_X25519 = 4, CRV_ED25519 = 6 };
enum { KEY_OP_SIGN = 1, KEY_OP_VERIFY = 2, KEY_OP_DERIVE_KEY = 7, KEY_OP_DERIVE_BITS = 8 };

/* COSE algorithms (RFC 9053; RFC 9864 for those of one curve) */
enum {
        COSE_A128GCM = 1,
        COSE_A256GCM = 3,
        COSE_HMAC_256_64 = 4,
        COSE_HMAC_256_256 = 5,
        COSE_HMAC_512_512 = 7,
        COSE_AES_CCM_16_64_128 = 10,
        COSE_AES_CCM_16_128_128 = 30,
        COSE_CHACHA20_POLY1305 = 24,
        COSE_ES256 = -7,
        COSE_EDDSA = -8,
        COSE_ES384 = -35,
        COSE_ESP256 = -9,
        COSE_ESP384 = -51,
        COSE_ED25519 = -19,
        COSE_ECDH_ES_HKDF_256 = -25, /* the first … */
        COSE_ECDH_SS_A256KW = -34,   /* … and the last that agrees on a key */
};

/* COSE header parameters (RFC 9052 §3.1) */
enum { HEADER_ALG = 1, HEADER_CRIT = 2, HEADER_KID = 4, HEADER_IV = 5, HEADER_PARTIAL_IV = 6 };

/* CBOR tags */
enum { TAG_COSE_ENCRYPT0 = 16, TAG_COSE_MAC0 = 17, TAG_COSE_SIGN1 = 18, TAG_CWT = 61 };
