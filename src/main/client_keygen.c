#include "main/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "crypto/pem.h"
#include "format/cbor.h"
#include "format/cose.h"

#define COSE_KEY_SIZE_MAX (VALUE_SIZE_MAX + 256)

/* A new file that only its owner reads; one that is there is somebody's key, and stays. */
static int write_key(const char *name, struct bytes text) {
        _cleanup_(closep) int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        size_t done = 0;

        if (fd < 0)
                return fail(EXIT_USAGE, "%s: %m", name);
        while (done < text.size) {
                ssize_t n = write(fd, text.data + done, text.size - done);

                if (n < 0 && errno != EINTR)
                        return fail(EXIT_INTERNAL, "%s: %m", name);
                done += n > 0 ? (size_t)n : 0;
        }
        return fsync(fd) == 0 ? 0 : fail(EXIT_INTERNAL, "%s: %m", name);
}

static json_t *hex(struct bytes bytes) {
        char text[2 * COSE_KEY_SIZE_MAX + 1];

        bytes_to_hex(bytes, text, sizeof(text));
        return json_string(text);
}

/* The public key in the forms that others ask for. */
static int show_key(const struct settings *settings, const struct public_key *key) {
        _cleanup_(json_decrefp) json_t *shown = NULL;
        _cleanup_(buf_done) struct buf cose = BUF_INIT(COSE_KEY_SIZE_MAX);
        struct cbor_writer w = CBOR_WRITER(&cose);
        uint8_t spki[SPKI_SIZE_MAX], thumbprint[THUMBPRINT_SIZE];
        size_t spki_size;

        cose_put_key(&w, key, value_bytes(&settings->kid));
        if (cbor_end(&w) != 0 || public_key_spki(key, spki, &spki_size) != 0 ||
            public_key_thumbprint(key, thumbprint) != 0)
                return out_of_memory();
        if (settings->output == OUTPUT_CBOR)
                return show_bytes(buf_bytes(&cose));
        shown = json_pack("{s:s, s:o, s:o, s:o}", "curve", curve_name(key->curve), "cose_key", hex(buf_bytes(&cose)),
                          "spki", hex(bytes_of(spki, spki_size)), "thumbprint",
                          hex(bytes_of(thumbprint, sizeof(thumbprint))));
        return shown ? show(settings, shown) : out_of_memory();
}

int verb_keygen(const struct settings *settings, char *const *arguments) {
        _cleanup_(secret_done) struct secret private_key = {};
        _cleanup_(buf_wiped) struct buf pem = BUF_INIT(PEM_SIZE_MAX);
        struct public_key key;
        int status;

        if (key_generate(settings->curve, &key, &private_key) != 0 ||
            pem_put_private_key(settings->curve, secret_bytes(&private_key), &pem) != 0)
                return fail(EXIT_INTERNAL, "no key could be made");
        if ((status = write_key(arguments[0], buf_bytes(&pem))) != 0)
                return status;
        return show_key(settings, &key);
}
