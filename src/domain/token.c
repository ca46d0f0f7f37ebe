#include "domain/token.h"

#include <errno.h>

#define NUMBER_SIZE_MIN 4

void token_done(struct token *token) {
        secret_done(&token->pop_key);
}

bool token_is_live(const struct token *token, int64_t now_s) {
        return token->revoked_s == 0 && token->issued_s <= now_s && token->nbf_s <= now_s && now_s < token->expires_s;
}

bool token_is_active(const struct token *token, int64_t server_id, bool is_of_group, int64_t now_s) {
        bool is_for_it = token->server_id == 0 ? is_of_group : token->server_id == server_id;

        return server_id != 0 && is_for_it && token_is_live(token, now_s);
}

size_t number_to_bytes(uint64_t number, uint8_t ret[static NUMBER_SIZE_MAX]) {
        size_t size = NUMBER_SIZE_MIN;

        while (size < NUMBER_SIZE_MAX && number >> (8 * size) != 0)
                size++;
        for (size_t i = 0; i < size; i++)
                ret[i] = (uint8_t)(number >> (8 * (size - 1 - i)));
        return size;
}

int number_from_bytes(struct bytes bytes, uint64_t *ret_number) {
        uint64_t number = 0;

        if (bytes.size < NUMBER_SIZE_MIN || bytes.size > NUMBER_SIZE_MAX)
                return -EINVAL;

        /* one number has one form: a second one would be another kid for the same key */
        if (bytes.size > NUMBER_SIZE_MIN && bytes.data[0] == 0)
                return -EINVAL;

        for (size_t i = 0; i < bytes.size; i++)
                number = number << 8 | bytes.data[i];
        *ret_number = number;
        return 0;
}

size_t exi_to_cti(int64_t server_id, uint64_t exi, uint8_t ret[static EXI_CTI_SIZE_MAX]) {
        size_t size = number_to_bytes((uint64_t)server_id, ret);

        for (size_t i = 0; i < EXI_SIZE; i++)
                ret[size++] = (uint8_t)(exi >> (8 * (EXI_SIZE - 1 - i)));
        return size;
}

int exi_from_cti(struct bytes cti, int64_t *ret_server_id, uint64_t *ret_exi) {
        uint64_t server_id, exi = 0;

        if (cti.size < EXI_SIZE || number_from_bytes(bytes_of(cti.data, cti.size - EXI_SIZE), &server_id) != 0 ||
            server_id > INT64_MAX)
                return -EINVAL;
        for (size_t i = cti.size - EXI_SIZE; i < cti.size; i++)
                exi = exi << 8 | cti.data[i];
        *ret_server_id = (int64_t)server_id;
        *ret_exi = exi;
        return 0;
}
