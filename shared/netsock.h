// SPDX-License-Identifier: Apache-2.0
// Netlink conversations with the kernel: one request, a dump, a batch of many, and a subscription. Floor 2.
//
// A request socket blocks only for the kernel's own work: rtnetlink and generic netlink answer inside sendmsg(2), so
// the answer is there when the call returns. Requests and events use separate sockets. Messages are built by the caller
// with libnl (nlmsg_alloc_simple, genlmsg_put, nla_put_*) and stay the caller's; sequence numbers and NLM_F_ACK are set
// here. Errors carry the kernel's errno and, where it gave one, its extended-ack text (netlink(7), NETLINK_EXT_ACK).
#ifndef BRASS_SHARED_NETSOCK_H
#define BRASS_SHARED_NETSOCK_H

#include "shared/err.h"
#include "shared/util.h"

#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <stddef.h>
#include <stdint.h>

struct netsock;

// protocol: NETLINK_ROUTE, NETLINK_GENERIC, NETLINK_SOCK_DIAG, NETLINK_NETFILTER. Returns 0 or -errno with a sentence.
int netsock_open(int protocol, struct netsock **ret, struct err *err);
void netsock_free(struct netsock *ns);
DEFINE_CLEANUP(struct netsock *, netsock_free)

// Looks up a generic netlink family by name. -ENOENT when the kernel has none (module not loaded).
int netsock_genl_family(struct netsock *ns, const char *name, uint16_t *ret_id, struct err *err);

// Sends one request and takes its acknowledgement. Returns 0 or the kernel's -errno; err->text is the kernel's
// words. -EINTR: the kernel gave no answer (netlink_rcv_skb in net/netlink/af_netlink.c).
int netsock_transact(struct netsock *ns, struct nl_msg *msg, struct err *err);

// The kernel's errno of an NLMSG_ERROR (0: an acknowledgement), with its extended-ack text when it sent one.
int netsock_error(const struct nlmsghdr *hdr, struct err *err);

// Sends one request, calls each for every message of the answer, and waits for the acknowledgement.
int netsock_get(struct netsock *ns, struct nl_msg *msg, int (*each)(struct nlmsghdr *hdr, void *ctx), void *ctx,
	struct err *err);

// Sends a dump request (NLM_F_DUMP is added) and calls each for every message of the answer; each returns 0 or -errno,
// which ends the dump and is returned. When the kernel says that the dump was interrupted by a change, or when messages
// were lost, restart is called (the caller forgets what it gathered) and the dump starts again, 10 times at most; then
// -EAGAIN.
int netsock_dump(struct netsock *ns, struct nl_msg *msg, int (*each)(struct nlmsghdr *hdr, void *ctx),
	void (*restart)(void *ctx), void *ctx, struct err *err);

// The same, piece by piece, once: the socket does nothing else meanwhile, and the caller judges -EAGAIN (interrupted)
// itself. next gives some messages to each; it returns 1, 0 when that was all, or -errno, and then the dump is over.
int netsock_dump_start(struct netsock *ns, struct nl_msg *msg, struct err *err);
int netsock_dump_next(struct netsock *ns, int (*each)(struct nlmsghdr *hdr, void *ctx), void *ctx, struct err *err);

// An array that a dump fills, item by item.
struct netsock_list {
	size_t size; // of one item
	size_t count, room;
	void *items;
};
int netsock_list_add(struct netsock_list *list, const void *item); // copies; 0 or -ENOMEM

// netsock_dump into a list: each adds what it reads to `list`, which it finds in its ctx. What was in the list stays.
// On an error the list is freed and empty.
int netsock_dump_list(struct netsock *ns, struct nl_msg *msg, int (*each)(struct nlmsghdr *hdr, void *list),
	struct netsock_list *list, struct err *err);

// A batch: messages are copied into buffers of 64 KiB, each sent by one sendmsg(2) with an acknowledgement asked for
// the last message only; the kernel answers every refused message with its error, which is given back with the cookie
// that came with it. The rest of the batch is carried out all the same.
struct netsock_batch;
typedef void (*netsock_refused_fn)(void *ctx, void *cookie, int error, const struct err *why);

int netsock_batch_new(struct netsock *ns, netsock_refused_fn refused, void *ctx, struct netsock_batch **ret);
// Adds a message, sending what is full. Returns 0 or -errno of the socket itself (not of a refused message).
int netsock_batch_add(struct netsock_batch *batch, struct nl_msg *msg, void *cookie);
// Sends the rest and collects every answer. Returns 0 or -errno of the socket itself.
int netsock_batch_flush(struct netsock_batch *batch);
size_t netsock_batch_sent(const struct netsock_batch *batch);     // messages so far
size_t netsock_batch_syscalls(const struct netsock_batch *batch); // sendmsg and recvmsg calls so far
void netsock_batch_free(struct netsock_batch *batch);
DEFINE_CLEANUP(struct netsock_batch *, netsock_batch_free)

// A socket that only listens: groups is a zero-ended list of RTNLGRP_* (or genl group numbers). The caller polls
// netsock_fd() and calls netsock_receive() when it is readable.
int netsock_subscribe(int protocol, const int *groups, struct netsock **ret, struct err *err);
int netsock_fd(const struct netsock *ns);
// Hands every waiting message to each (may be NULL: an event is only a wake-up). Returns the number of messages, or
// -ENOBUFS when events were lost: the caller must look at everything again.
int netsock_receive(struct netsock *ns, void (*each)(struct nlmsghdr *hdr, void *ctx), void *ctx);

#endif
