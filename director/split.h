// SPDX-License-Identifier: Apache-2.0
// Weights that make shares of new connections: A/B, canary. Pure. Floor 1.
//
// Backends of one version are a group with a share. Each member gets a weight so that the sums of the groups' weights
// are to each other exactly as their shares are, whatever the number of members; inside a group the sum is divided as
// the members' own weights are. A group without a usable member gives its share to the others.
//
// How exact: the kernel's wrr walks from the largest weight down in steps of the weights' common divisor
// (net/netfilter/ipvs/ip_vs_wrr.c), so shares are exact over one cycle (the sum of all weights), and a group with small
// weights gets its connections at the end of it. Weights are therefore as small as they can be. Of the multiples of
// the shares that give every usable member at least 1, it is
// 1. the smallest that the members' own weights divide without remainder, if its cycle is 2,000 at most; else
// 2. the smallest at which nobody is more than 5 % off inside its group, if its cycle is 10,000 at most; else
// 3. the smallest at which nobody gets more than its due for having at least 1, but no longer a cycle than 10,000,
//    unless there are so many members: then proportions inside a group give way to those between the groups.
// wlc and lc spread connections within the cycle.
//
// Not exact is only what weights up to 65,535 cannot say: shares are then on the largest scale that they can, every sum
// within 1/2 of its due, but for groups that have more members than that: they get 1 for each.
//
// mh (ip_vs_mh.c) shifts weights to the right until the largest is below 64, and fills 4,093 slots by rounds of what is
// left, in the order of its list: beyond 63, weights are rounded down, and beyond 4,093 in all, the last get no slot.
// So no weight is larger than 63, and a cycle is a tenth of the slots, unless there are more members: the last round is
// cut short, which gives a group at most one cycle's share too much. The largest ratio of two backends is 63:1.
//
// sh (ip_vs_sh.c) fills 256 buckets, weight by weight, and gives one to a destination of weight 0, too (whose clients
// are refused, if the service has no flag sh-fallback). So for sh the weights and the members without weight add up to
// 256, and shares are as near as whole buckets can be, 1 for every member if there are no more than 256 in all. With
// more members, the weights add up to 256, some members get 0, and no group does.
#ifndef BRASS_DIRECTOR_SPLIT_H
#define BRASS_DIRECTOR_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPLIT_WEIGHT_MAX 65535u // of the kernel
#define SPLIT_SH_BUCKETS 256u   // IP_VS_SH_TAB_SIZE
#define SPLIT_MH_SLOTS 4093u    // IP_VS_MH_TAB_SIZE
#define SPLIT_MH_TURNS 63u      // below 1 << IP_VS_MH_TAB_BITS

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

// Fills in the groups' and members' results. buckets: SPLIT_SH_BUCKETS for sh, SPLIT_MH_SLOTS for mh, else 0. Returns
// whether the sums are exactly as the shares are; when not, they are as near as they can be. Without memory all weights
// are 0. Work: members by their logarithm, however many groups there are, and up to 10,000 looks at each group.
bool split_weights(struct split_group *groups, size_t group_count, struct split_member *members, size_t member_count,
	uint32_t buckets);

#endif
