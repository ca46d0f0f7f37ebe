#include "domain/oscore.h"

#define PIV_ID_SIZE 6 /* of a nonce: size of the ID, and the Partial IV in five bytes */

static const char *const hkdf_names[] = {
        [OSCORE_HKDF_SHA256] = "SHA-256",
        [OSCORE_HKDF_SHA512] = "SHA-512",
};

#define N_HKDFS (sizeof(hkdf_names) / sizeof(hkdf_names[0]))

size_t oscore_id_size_max(enum aead_alg alg) {
        const struct aead_info *info = aead_info(alg);

        return info ? info->nonce_size - PIV_ID_SIZE : 0;
}

bool oscore_id_equal(const struct oscore_id *a, const struct oscore_id *b) {
        return bytes_equal(bytes_of(a->data, a->size), bytes_of(b->data, b->size));
}

bool oscore_parameters_are_good(const struct oscore_parameters *parameters) {
        const struct oscore_id *sender = &parameters->sender_id, *recipient = &parameters->recipient_id;
        size_t id_size_max = oscore_id_size_max(parameters->alg);

        return aead_info(parameters->alg) && oscore_hkdf_name(parameters->hkdf) && sender->size <= id_size_max &&
               recipient->size <= id_size_max && !oscore_id_equal(sender, recipient) &&
               parameters->salt_size <= sizeof(parameters->salt) &&
               parameters->id_context_size <= (parameters->has_id_context ? sizeof(parameters->id_context) : 0);
}

struct oscore_parameters oscore_parameters_turned(const struct oscore_parameters *parameters) {
        struct oscore_parameters turned = *parameters;

        turned.sender_id = parameters->recipient_id;
        turned.recipient_id = parameters->sender_id;
        return turned;
}

const char *oscore_hkdf_name(enum oscore_hkdf hkdf) {
        return hkdf > 0 && (size_t)hkdf < N_HKDFS ? hkdf_names[hkdf] : NULL;
}

enum oscore_hkdf oscore_hkdf_from_name(const char *name) {
        for (size_t i = 1; i < N_HKDFS; i++)
                if (strcmp(hkdf_names[i], name) == 0)
                        return (enum oscore_hkdf)i;
        return (enum oscore_hkdf)0;
}
