/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* Types and codes (RFC 792, RFC 4443); linux/icmp.h would bring in sockets and libc. */
#define ICMP_ECHO_REPLY	     0
#define ICMP_UNREACHABLE     3
#define ICMP_CODE_PORT	     3
#define ICMP_CODE_TOO_BIG    4 /* fragmentation needed, and don't fragment was set */
#define ICMP_ECHO_REQUEST    8
#define ICMP_TIME_EXCEEDED   11
#define ICMP_PARAMETER	     12
#define ICMPV6_UNREACHABLE   1
#define ICMPV6_CODE_PORT     4
#define ICMPV6_TOO_BIG	     2
#define ICMPV6_TIME_EXCEEDED 3
#define ICMPV6_ERROR_LAST    4 /* parameter problem */
#define ICMPV6_ECHO_REQUEST  128
#define ICMPV6_ECHO_REPLY    129
