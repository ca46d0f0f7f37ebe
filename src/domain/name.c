#include "domain/name.h"

static bool is_name_char(uint8_t c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
               c == ':' || c == '@' || c == '+' || c == '-';
}

bool name_is_valid(struct bytes name) {
        if (name.size == 0 || name.size > NAME_SIZE_MAX)
                return false;

        /* a name must not look like an option of acectl, nor be hidden or climb when it becomes part of a path */
        if (name.data[0] == '-' || name.data[0] == '.')
                return false;

        for (size_t i = 0; i < name.size; i++)
                if (!is_name_char(name.data[i]))
                        return false;
        return true;
}

bool audience_is_valid(struct bytes audience) {
        if (audience.size == 0 || audience.size > AUDIENCE_SIZE_MAX)
                return false;

        for (size_t i = 0; i < audience.size; i++) {
                uint8_t c = audience.data[i];

                if (c <= ' ' || c > '~' || c == '"' || c == '\\')
                        return false;
        }
        return true;
}
