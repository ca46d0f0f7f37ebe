#include "main/key_file.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/secret.h"
#include "crypto/pem.h"
#include "main/invocation.h"

#define PEM_SIZE_MAX ((size_t)64 << 10)
#define RULE_SIZE (sizeof("spki:") + 2 * THUMBPRINT_SIZE)

/* The file may have a private key too, which nobody but this function sees. */
static int read_key(const char *path, struct public_key *ret) {
        uint8_t pem[PEM_SIZE_MAX];
        FILE *file = fopen(path, "re");
        size_t size;
        int r = -EINVAL;

        if (!file) {
                say("cannot read %s: %s", path, strerror(errno));
                return -EINVAL;
        }
        size = fread(pem, 1, sizeof(pem), file);
        if (ferror(file))
                say("cannot read %s: %s", path, strerror(errno));
        else if ((r = pem_public_key(bytes_of(pem, size), ret)) != 0)
                say("%s has no public key on P-256, P-384, Ed25519 or X25519 in PEM", path);
        wipe(pem, sizeof(pem));
        (void)fclose(file);
        return r;
}

json_t *key_file_public_key(const char *path) {
        char text[2 * SPKI_SIZE_MAX + 1];
        uint8_t spki[SPKI_SIZE_MAX];
        struct public_key key;
        size_t size;

        if (read_key(path, &key) != 0 || public_key_spki(&key, spki, &size) != 0)
                return NULL;
        bytes_to_hex(bytes_of(spki, size), text, sizeof(text));
        return json_string(text);
}

json_t *key_file_rule(const char *path) {
        uint8_t thumbprint[THUMBPRINT_SIZE];
        char text[RULE_SIZE] = "spki:";
        struct public_key key;

        if (read_key(path, &key) != 0 || public_key_thumbprint(&key, thumbprint) != 0)
                return NULL;
        bytes_to_hex(bytes_of(thumbprint, sizeof(thumbprint)), text + strlen(text), sizeof(text) - strlen(text));
        return json_string(text);
}
