#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDRESS_KEY_SIZE 24
#define ADDRESS_TEXT_SIZE (INET6_ADDRSTRLEN + sizeof("[%4294967295]:65535"))

/* A UDP address of either family, comparable and hashable. */
struct address {
        union {
                struct sockaddr any;
                struct sockaddr_in in;
                struct sockaddr_in6 in6;
        };
        socklen_t size; /* of the sockaddr; 0: none */
        /*
         * Of an address that a datagram came from: our own address that it came to, so that the answer leaves from
         * there (a socket may be bound to "any"). All zero: not known. No part of comparison, key and text.
         */
        union {
                struct in_addr in;
                struct in6_addr in6;
        } local;
};

bool address_equal(const struct address *a, const struct address *b);
/* Family, port, address (and scope) in canonical bytes, for cookies and hashing. Returns how many are used. */
size_t address_key(const struct address *address, uint8_t key[static ADDRESS_KEY_SIZE]);
/* "127.0.0.1:5684", "[::1]:5684", "[fe80::1%2]:5684"; "-" for none. Cut when text_size is under ADDRESS_TEXT_SIZE. */
void address_text(const struct address *address, char *text, size_t text_size);
/* "HOST:PORT", "[V6]:PORT", ":PORT" or "*:PORT" (IPv4's any); numeric only. 0 or -EINVAL. */
int address_parse(const char *text, struct address *ret);
