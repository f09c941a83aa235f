// SPDX-License-Identifier: Apache-2.0
#include "director/sysctl.h"

#include "shared/util.h"

#include <fcntl.h>
#include <sys/socket.h>

bool sysctl_forwards(int family)
{
	const char *path =
		family == AF_INET6 ? "/proc/sys/net/ipv6/conf/all/forwarding" : "/proc/sys/net/ipv4/ip_forward";
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char value = '0';

	return fd >= 0 && read(fd, &value, 1) == 1 && value != '0';
}
