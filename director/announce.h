// SPDX-License-Identifier: Apache-2.0
// Tells the neighbours where an address is: gratuitous ARP and unsolicited neighbour advertisements. Floor 2.
#ifndef BRASS_DIRECTOR_ANNOUNCE_H
#define BRASS_DIRECTOR_ANNOUNCE_H

#include "shared/err.h"
#include "shared/iflink.h"
#include "shared/inet.h"

#include <stddef.h>

// Sends one announcement of addr from every Ethernet device that is up and no port of a bridge or bond. Returns the
// number of devices, or -errno when none could be sent.
int announce_send(const struct iflink *links, size_t count, const struct inet_addr *addr, struct err *err);

// The frame for one device, for the test: bytes of the frame in buf.
#define ANNOUNCE_FRAME_MAX 96
size_t announce_frame(const uint8_t mac[6], const struct inet_addr *addr, uint8_t buf[ANNOUNCE_FRAME_MAX]);

#endif
