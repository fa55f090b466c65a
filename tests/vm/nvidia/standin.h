/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A stand-in for NVIDIA's driver, for tests in a guest: it has the real one's device numbers and
 * takes the real one's calls, but there is no card. Numbers and layouts: open-gpu-kernel-modules
 * 595.45.04, src/nvidia/arch/nvalloc/unix/include/nv_escape.h, kernel-open/common/inc/nv-ioctl*.h,
 * src/common/sdk/nvidia/inc/nvos.h, kernel-open/nvidia-uvm/uvm_ioctl.h.
 */
#ifndef STANDIN_H
#define STANDIN_H

#include <linux/fs.h>
#include <linux/types.h>

#define CARDS 2
#define CTL_MINOR 255

/* src/common/sdk/nvidia/inc/nvstatuscodes.h */
#define NV_OK 0x00
#define NV_ERR_INSERT_DUPLICATE_NAME 0x19
#define NV_ERR_INSUFFICIENT_PERMISSIONS 0x1b
#define NV_ERR_INSUFFICIENT_RESOURCES 0x1a
#define NV_ERR_INVALID_CLIENT 0x23
#define NV_ERR_INVALID_OBJECT_PARENT 0x36
#define NV_ERR_INVALID_STATE 0x40

extern const struct file_operations rm_fops;  /* nvidiactl and nvidiaN */
extern const struct file_operations uvm_fops; /* nvidia-uvm */

enum node { NODE_CTL, NODE_CARD, NODE_UVM };

/* Note what has arrived here, as the driver has read it: /proc/driver/nvidia/seen. */
void note_seen(enum node node, u32 nr, u32 code, int wrapped, u32 status);

#endif
