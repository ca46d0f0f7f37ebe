/*
 * aced.conf: any bytes give a configuration within its bounds, or faults with their lines; what is shown can be read
 * again.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/mman.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/config.h"
#include "base/log.h"
#include "fuzz.h"

#define TEXT_MAX ((size_t)64 << 10)

DEFINE_FREEP(struct config, config_free)

static int load(struct bytes text, struct config **ret, struct diags *faults) {
        _cleanup_(closep) int fd = memfd_create("aced.conf", MFD_CLOEXEC);
        char path[32];

        MUST(fd >= 0 && write(fd, text.data, text.size) == (ssize_t)text.size);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        return config_load(path, ret, faults);
}

/*
 * {"items": [{"section", "key", "value"}…]} as the file that would say so. A ; begins a comment where a space is before
 * it.
 */
static void write_back(const json_t *shown, struct buf *ret) {
        size_t i;
        json_t *item;

        json_array_foreach(json_object_get(shown, "items"), i, item) {
                const json_t *value = json_object_get(item, "value");

                MUST(buf_printf(ret, "[%s]\n%s=", json_string_value(json_object_get(item, "section")),
                                json_string_value(json_object_get(item, "key"))) == 0);
                if (json_is_integer(value))
                        MUST(buf_printf(ret, "%" JSON_INTEGER_FORMAT "\n", json_integer_value(value)) == 0);
                else
                        MUST(buf_printf(ret, "%s\n", json_string_value(value)) == 0);
        }
}

static void show(const struct config *config, struct buf *ret) {
        MUST(config_print(config, ret) == 0);
}

static void must_come_back(const struct config *config) {
        _cleanup_(buf_done) struct buf json = BUF_INIT(TEXT_MAX), again = BUF_INIT(TEXT_MAX), text = BUF_INIT(TEXT_MAX);
        _cleanup_(config_freep) struct config *copy = NULL;
        _cleanup_(diags_done) struct diags faults = {};
        json_t *shown;

        show(config, &json);
        shown = json_loadb((const char *)json.data, json.size, 0, NULL);
        MUST(shown);
        write_back(shown, &text);
        json_decref(shown);
        MUST(load(buf_bytes(&text), &copy, &faults) == 0);
        show(copy, &again);
        MUST(bytes_equal(buf_bytes(&json), buf_bytes(&again)));
        MUST(config_keep_fixed(copy, config, &faults) == 0 && faults.n_items == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(config_freep) struct config *config = NULL;
        _cleanup_(diags_done) struct diags faults = {};
        int r = load(bytes_of(data, size < TEXT_MAX ? size : TEXT_MAX), &config, &faults);

        MUST(r == 0 || r == -EINVAL);
        MUST((r == 0) == (config != NULL) && (r == 0) == (faults.n_items == 0));
        for (size_t i = 0; i < faults.n_items; i++)
                MUST(faults.items[i].file && faults.items[i].line > 0 && *faults.items[i].text);
        if (r != 0)
                return 0;
        MUST(config->default_lifetime_s >= 1 && config->default_lifetime_s <= config->max_lifetime_s);
        MUST(config->n_coap_listen <= CONFIG_LISTEN_MAX && config->n_coaps_listen <= CONFIG_LISTEN_MAX);
        MUST(config->log_level >= LOG_LEVEL_ERROR && config->log_level <= LOG_LEVEL_DEBUG);
        MUST(config->payload_max >= 128 && config->batch_max >= 1 && config->pending_max >= 1);
        must_come_back(config);
        return 0;
}
