/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* System calls by number, and where their arguments are: for each machine. */
#ifndef VIGILES_SYSCALL_BPF_H
#define VIGILES_SYSCALL_BPF_H

#include "common.bpf.h"

#if defined(__TARGET_ARCH_x86)
#define NR_IOCTL 16
#define NR_IOCTL_COMPAT 54
#define X32_BIT 0x40000000
#define NR_IOCTL_X32 (X32_BIT | 514)
#define NR_KILL 62
#define NR_KILL_COMPAT 37
#define TS_COMPAT 0x0002
#define SYSCALL_NUMBER(regs) ((__u32)FIELD(regs, orig_ax))
#define REG_FIRST(regs) FIELD(regs, di) /* of a function as of a call */
#define REG_FD(regs) ((__u32)FIELD(regs, di))
#define REG_CMD(regs) ((__u32)FIELD(regs, si))
#define REG_ARG(regs) FIELD(regs, dx)
#define REG_FD_COMPAT(regs) ((__u32)FIELD(regs, bx))
#define REG_CMD_COMPAT(regs) ((__u32)FIELD(regs, cx))
#define REG_ARG_COMPAT(regs) ((__u32)FIELD(regs, dx))
#define IS_COMPAT(task) (FIELD(task, thread_info.status) & TS_COMPAT)
#elif defined(__TARGET_ARCH_arm64)
#define NR_IOCTL 29
#define NR_IOCTL_COMPAT 54
#define X32_BIT 0
#define NR_IOCTL_X32 NR_IOCTL
#define NR_KILL 129
#define NR_KILL_COMPAT 37
#define TIF_32BIT (1UL << 22)
#define SYSCALL_NUMBER(regs) ((__u32)FIELD(regs, regs[8]))
#define REG_FIRST(regs) FIELD(regs, regs[0])
#define REG_FD(regs) ((__u32)FIELD(regs, regs[0]))
#define REG_CMD(regs) ((__u32)FIELD(regs, regs[1]))
#define REG_ARG(regs) FIELD(regs, regs[2])
#define REG_FD_COMPAT(regs) REG_FD(regs)
#define REG_CMD_COMPAT(regs) REG_CMD(regs)
#define REG_ARG_COMPAT(regs) ((__u32)FIELD(regs, regs[2]))
#define IS_COMPAT(task) (FIELD(task, thread_info.flags) & TIF_32BIT)
#endif

#endif
