// SPDX-License-Identifier: Apache-2.0
// The doctor's checks, one function each; doctor.c has the table that names them and says where they apply. Each adds
// at least one finding where it applies, and nothing where the question does not arise. Floor 5.
#ifndef BRASS_AGENT_DOCTOR_CHECKS_H
#define BRASS_AGENT_DOCTOR_CHECKS_H

#include "agent/doctor_facts.h"

// Of the host (doctor_director.c, doctor_host.c).
void doctor_check_director(struct doctor *d);
void doctor_check_lease(struct doctor *d);
void doctor_check_clock(struct doctor *d);
void doctor_check_address(struct doctor *d);
void doctor_check_filter_seen(struct doctor *d); // doctor_filter.c
void doctor_check_offload(struct doctor *d);     // doctor_net.c

// Of one service.
void doctor_check_backend(struct doctor *d, const struct doctor_case *c); // doctor_director.c
void doctor_check_module(struct doctor *d, const struct doctor_case *c);  // doctor_host.c
void doctor_check_tunnel(struct doctor *d, const struct doctor_case *c);
void doctor_check_vip(struct doctor *d, const struct doctor_case *c);
void doctor_check_arp(struct doctor *d, const struct doctor_case *c);
void doctor_check_program(struct doctor *d, const struct doctor_case *c); // doctor_program.c
void doctor_check_way_in(struct doctor *d, const struct doctor_case *c);  // doctor_net.c
void doctor_check_way_out(struct doctor *d, const struct doctor_case *c);
void doctor_check_mss(struct doctor *d, const struct doctor_case *c);
void doctor_check_duplicate(struct doctor *d, const struct doctor_case *c); // doctor_duplicate.c
void doctor_check_filter(struct doctor *d, const struct doctor_case *c);    // doctor_filter.c
void doctor_check_conntrack(struct doctor *d, const struct doctor_case *c);
void doctor_check_dnat(struct doctor *d, const struct doctor_case *c);

#endif
