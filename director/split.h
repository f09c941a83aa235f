// SPDX-License-Identifier: Apache-2.0
// Weights that make shares of new connections: A/B, canary. Pure. Floor 3.
//
// Backends of one version are a group with a share. Each member gets a weight so that the sums of the groups' weights
// are to each other exactly as their shares are, whatever the number of members; inside a group the sum is divided as
// the members' own weights are. A group without a usable member gives its share to the others.
//
// How exact: the kernel's wrr walks from the largest weight down in steps of the weights' common divisor
// (net/netfilter/ipvs/ip_vs_wrr.c), so shares are exact over one cycle (the sum of all weights), and a group with small
// weights gets its connections at the end of it. Weights are therefore as small as they can be: the smallest multiple
// of the shares that gives every member at least 1 and is at most 5 % off inside each group; if its cycle would be
// longer than 10,000, the smallest that gives every member 1. wlc and lc spread connections within the cycle. mh
// divides its 4,093 slots by weight. sh fills 256 buckets, weight by weight, so for sh the weights add up to 256 and
// shares are exact to 1/256 only.
#ifndef BRASS_DIRECTOR_SPLIT_H
#define BRASS_DIRECTOR_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPLIT_WEIGHT_MAX 65535u // of the kernel
#define SPLIT_SH_BUCKETS 256u   // IP_VS_SH_TAB_SIZE

struct split_group {
	uint32_t share;
	// out
	uint32_t usable; // members with a weight of their own; 0: its share goes to the others
	uint64_t total;  // sum of their weights
};

struct split_member {
	int group;       // index, -1: of none, which gets nothing
	uint32_t base;   // its own weight; 0: it can take no connections
	uint32_t weight; // out
};

// Fills in the groups' and members' results. buckets: SPLIT_SH_BUCKETS for sh, else 0. Returns whether the sums are
// exactly as the shares are; they are not for sh, nor when that would need a weight above SPLIT_WEIGHT_MAX. Then they
// are as near as they can be.
bool split_weights(struct split_group *groups, size_t group_count, struct split_member *members, size_t member_count,
	uint32_t buckets);

#endif
