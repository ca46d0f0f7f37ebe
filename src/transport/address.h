#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

/* A UDP address of either family, comparable and hashable. */
struct address {
        union {
                struct sockaddr any;
                struct sockaddr_in in;
                struct sockaddr_in6 in6;
        };
        socklen_t size; /* of the sockaddr; 0: none */
};

bool address_equal(const struct address *a, const struct address *b);
/* Family, port, address (and scope) in canonical bytes, for cookies and hashing. Returns how many of the 24 are used. */
size_t address_key(const struct address *address, uint8_t key[static 24]);
/* "127.0.0.1:5684", "[::1]:5684" */
void address_text(const struct address *address, char *text, size_t text_size);
/* "HOST:PORT", "[V6]:PORT", ":PORT" or "*:PORT" (any); numeric only. 0 or -EINVAL. */
int address_parse(const char *text, struct address *ret);
