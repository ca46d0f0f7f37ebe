#include "transport/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool address_equal(const struct address *a, const struct address *b) {
        uint8_t key_a[ADDRESS_KEY_SIZE], key_b[ADDRESS_KEY_SIZE];
        size_t size = address_key(a, key_a);

        return size == address_key(b, key_b) && memcmp(key_a, key_b, size) == 0;
}

static size_t put(uint8_t *key, size_t at, const void *data, size_t size) {
        memcpy(key + at, data, size);
        return at + size;
}

size_t address_key(const struct address *address, uint8_t key[static ADDRESS_KEY_SIZE]) {
        uint16_t family = address->size == 0 ? AF_UNSPEC : address->any.sa_family;
        size_t at = put(key, 0, &family, sizeof(family));

        if (family == AF_INET) {
                at = put(key, at, &address->in.sin_port, sizeof(address->in.sin_port));
                at = put(key, at, &address->in.sin_addr, sizeof(address->in.sin_addr));
        }
        if (family == AF_INET6) {
                at = put(key, at, &address->in6.sin6_port, sizeof(address->in6.sin6_port));
                at = put(key, at, &address->in6.sin6_addr, sizeof(address->in6.sin6_addr));
                at = put(key, at, &address->in6.sin6_scope_id, sizeof(address->in6.sin6_scope_id));
        }
        return at;
}

void address_text(const struct address *address, char *text, size_t text_size) {
        char host[INET6_ADDRSTRLEN] = "?", scope[12] = "";

        if (address->size == 0) {
                snprintf(text, text_size, "-");
                return;
        }
        if (address->any.sa_family == AF_INET) {
                inet_ntop(AF_INET, &address->in.sin_addr, host, sizeof(host));
                snprintf(text, text_size, "%s:%u", host, ntohs(address->in.sin_port));
                return;
        }
        inet_ntop(AF_INET6, &address->in6.sin6_addr, host, sizeof(host));
        if (address->in6.sin6_scope_id != 0)
                snprintf(scope, sizeof(scope), "%%%u", address->in6.sin6_scope_id);
        snprintf(text, text_size, "[%s%s]:%u", host, scope, ntohs(address->in6.sin6_port));
}

/* Decimal digits and nothing else, at most max. */
static int number_parse(const char *text, unsigned long max, unsigned long *ret) {
        unsigned long value;

        if (*text == '\0' || strspn(text, "0123456789") != strlen(text) || strlen(text) > 10)
                return -EINVAL;
        value = strtoul(text, NULL, 10);
        if (value > max)
                return -EINVAL;
        *ret = value;
        return 0;
}

static int v4_parse(const char *host, uint16_t port, struct address *ret) {
        struct address address = { .in = { .sin_family = AF_INET, .sin_port = htons(port) },
                                   .size = sizeof(struct sockaddr_in) };

        if (strcmp(host, "") != 0 && strcmp(host, "*") != 0 && inet_pton(AF_INET, host, &address.in.sin_addr) != 1)
                return -EINVAL;
        *ret = address;
        return 0;
}

/* host is "[V6]" or "[V6%SCOPE]" and is cut up here. */
static int v6_parse(char *host, uint16_t port, struct address *ret) {
        struct address address = { .in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) },
                                   .size = sizeof(struct sockaddr_in6) };
        char *end = strchr(host, ']'), *percent = strchr(host, '%');
        unsigned long scope;

        if (!end || end[1] != '\0')
                return -EINVAL;
        *end = '\0';
        if (percent) {
                *percent = '\0';
                if (number_parse(percent + 1, UINT32_MAX, &scope) != 0)
                        return -EINVAL;
                address.in6.sin6_scope_id = (uint32_t)scope;
        }
        if (inet_pton(AF_INET6, host + 1, &address.in6.sin6_addr) != 1)
                return -EINVAL;
        *ret = address;
        return 0;
}

int address_parse(const char *text, struct address *ret) {
        char host[ADDRESS_TEXT_SIZE];
        const char *colon = strrchr(text, ':');
        unsigned long port;

        if (!colon || (size_t)(colon - text) >= sizeof(host))
                return -EINVAL;
        if (number_parse(colon + 1, UINT16_MAX, &port) != 0)
                return -EINVAL;
        memcpy(host, text, (size_t)(colon - text));
        host[colon - text] = '\0';
        return host[0] == '[' ? v6_parse(host, (uint16_t)port, ret) : v4_parse(host, (uint16_t)port, ret);
}
