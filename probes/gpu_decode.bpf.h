/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What an ioctl asks of a GPU's driver: which call, about what, for how much memory. It is read when the call
 * begins: another thread may change it before the driver looks.
 */
#ifndef VIGILES_GPU_DECODE_BPF_H
#define VIGILES_GPU_DECODE_BPF_H

#include "common.bpf.h"

struct gpu_command {
	__u64 asked; /* bytes of device memory */
	__u32 cmd;
	__u32 nr;
	__u32 code;
	__u32 minor;
	__u8 family;
	__u8 flags;
	__u8 unsized; /* asks for memory, but how much can't be read */
};

#define UVM_INITIALIZE 0x30000001
#define UVM_DEINITIALIZE 0x30000002
#define UVM_REGISTER_CHANNEL 27

#define NV_ESC_RM_ALLOC_MEMORY 0x27
#define NV_ESC_RM_CONTROL 0x2a
#define NV_ESC_RM_ALLOC 0x2b
#define NV_ESC_RM_VID_HEAP_CONTROL 0x4a
#define NV_ESC_IOCTL_XFER_CMD 211

/* Memory of the card: NV01_MEMORY_LOCAL_PRIVILEGED, NV01_MEMORY_LOCAL_USER. */
#define NV_MEMORY_LOCAL_FIRST 0x3f
#define NV_MEMORY_LOCAL_LAST 0x40
#define NVOS32_FUNCTION_ALLOC_SIZE 2
/* NVOS32_ATTR_LOCATION, bits 26:25: 0 is the card */
#define NVOS32_ATTR_LOCATION 0x06000000

#define KFD_IOC_CREATE_QUEUE 0x02
#define KFD_IOC_ALLOC_MEMORY 0x16
#define KFD_ALLOC_VRAM 1

#define DRM_AMDGPU_GEM_CREATE 0x40
#define AMDGPU_GEM_DOMAIN_VRAM 4
#define DRM_AMDGPU_CS 0x44
#define AMDGPU_CHUNK_ID_IB 1
#define AMDGPU_CHUNKS 4 /* looked at; the buffer is the first of most programs */
#define AMDGPU_NO_ENGINE 0xffffffff
#define DRM_I915_GEM_EXECBUFFER2 0x69
#define I915_EXEC_RING_MASK 0x3f
#define DRM_XE_GEM_CREATE 0x41
#define DRM_XE_EXEC_QUEUE_CREATE 0x46
#define DRM_XE_EXEC 0x49
#define DRM_AMDGPU_USERQ 0x56
#define HABANALABS_CS 0x42

/* Queue types of the KFD that compute; the others only copy (kfd_ioctl.h). */
#define KFD_QUEUE_COMPUTE 0
#define KFD_QUEUE_COMPUTE_AQL 2

/* Served by the kernel for every file, so a driver never sees them
 * (do_vfs_ioctl in fs/ioctl.c). */
#define FIONBIO 0x5421
#define FIONCLEX 0x5450
#define FIOCLEX 0x5451
#define FIOASYNC 0x5452
#define FIOQSIZE 0x5460

/* struct nv_ioctl_xfer, open-gpu-kernel-modules kernel-open/common/inc/nv-ioctl.h */
struct nv_xfer {
	__u32 cmd;
	__u32 size;
	__u64 ptr;
};

INLINE void read_code(struct gpu_command *c, __u64 arg, __u32 offset)
{
	if (bpf_probe_read_user(&c->code, sizeof(c->code), (void *)(arg + offset)))
		c->flags |= GPU_ARG_UNREADABLE;
}

/* A number that decides about the call, behind a pointer in its argument. */
INLINE void read_code_behind(struct gpu_command *c, __u64 arg, __u32 offset, __u32 inner, __u32 size)
{
	__u64 pointer = 0;

	if (bpf_probe_read_user(&pointer, sizeof(pointer), (void *)(arg + offset)) ||
	    bpf_probe_read_user(&c->code, size, (void *)(pointer + inner)))
		c->flags |= GPU_ARG_UNREADABLE;
}

INLINE void read_asked(struct gpu_command *c, __u64 where)
{
	if (bpf_probe_read_user(&c->asked, sizeof(c->asked), (void *)where))
		c->unsized = 1;
}

/* NV_MEMORY_ALLOCATION_PARAMS behind NVOS21 and NVOS64: size at 64. */
INLINE void ask_by_alloc(struct gpu_command *c, __u64 arg)
{
	__u64 parameters = 0;

	if (c->code < NV_MEMORY_LOCAL_FIRST || c->code > NV_MEMORY_LOCAL_LAST)
		return;
	if (bpf_probe_read_user(&parameters, sizeof(parameters), (void *)(arg + 16)))
		c->unsized = 1;
	else
		read_asked(c, parameters + 64);
}

/* NVOS32: function at 8, attributes at 56, size at 88. */
INLINE void ask_by_heap(struct gpu_command *c, __u64 arg)
{
	__u32 attributes = 0;

	read_code(c, arg, 8);
	if (c->code != NVOS32_FUNCTION_ALLOC_SIZE)
		return;
	if (bpf_probe_read_user(&attributes, sizeof(attributes), (void *)(arg + 56)))
		c->unsized = 1;
	else if (!(attributes & NVOS32_ATTR_LOCATION))
		read_asked(c, arg + 88);
}

/* Memory, if flags at an offset say that it is the device's; the size lies elsewhere. */
INLINE void ask_by_flags(struct gpu_command *c, __u64 arg, __u32 at, __u32 device, __u32 size_at)
{
	__u32 flags = 0;

	if (bpf_probe_read_user(&flags, sizeof(flags), (void *)(arg + at)))
		c->unsized = 1;
	else if (flags & device)
		read_asked(c, arg + size_at);
}

/*
 * Which engine a submission is for: ip_type at 20 of the first chunk that is a buffer of commands
 * (struct drm_amdgpu_cs: count at 8, chunks at 16; struct drm_amdgpu_cs_chunk; drm/amdgpu_drm.h).
 */
INLINE void read_amdgpu_engine(struct gpu_command *c, __u64 arg)
{
	struct { __u32 id, length; __u64 data; } chunk = {};
	__u64 chunks = 0, one = 0;
	__u32 count = 0;

	if (bpf_probe_read_user(&count, sizeof(count), (void *)(arg + 8)) ||
	    bpf_probe_read_user(&chunks, sizeof(chunks), (void *)(arg + 16)))
		goto unreadable;
	for (__u32 i = 0; i < AMDGPU_CHUNKS; i++) {
		if (i >= count)
			break;
		if (bpf_probe_read_user(&one, sizeof(one), (void *)(chunks + 8 * i)) ||
		    bpf_probe_read_user(&chunk, sizeof(chunk), (void *)one))
			goto unreadable;
		if (chunk.id == AMDGPU_CHUNK_ID_IB) {
			read_code(c, chunk.data, 20);
			return;
		}
	}
	c->code = AMDGPU_NO_ENGINE;
	return;
unreadable:
	c->flags |= GPU_ARG_UNREADABLE;
}

/*
 * The driver looks at _IOC_NR only (nvidia_ioctl in kernel-open/nvidia/nv.c), so
 * do we: a filter on magic or direction could be walked around. Class and control
 * code lie at the same offsets in every release: NVOS21/NVOS64 hClass at 12,
 * NVOS54 cmd at 8, NVOS02 hClass at 12 (src/common/sdk/nvidia/inc/nvos.h).
 * They are read at entry: another thread may change them before the driver does.
 */
INLINE void decode_nvidia(struct gpu_command *c, __u64 arg)
{
	struct nv_xfer xfer = {};

	c->nr = c->cmd & 0xff;
	if (c->nr == NV_ESC_IOCTL_XFER_CMD) {
		c->flags |= GPU_WRAPPED;
		if (bpf_probe_read_user(&xfer, sizeof(xfer), (void *)arg)) {
			c->flags |= GPU_ARG_UNREADABLE;
			return;
		}
		c->cmd = xfer.cmd;
		c->nr = xfer.cmd & 0xff;
		arg = xfer.ptr;
	}
	switch (c->nr) {
	case NV_ESC_RM_ALLOC:
		read_code(c, arg, 12);
		/* From Fermi (0x9000) on, the low byte of a class tells its
		 * kind: 6f a channel, c0 compute (inc/class/cl*.h). */
		if (c->code >= 0x9000 && ((c->code & 0xff) == 0x6f || (c->code & 0xff) == 0xc0))
			c->flags |= GPU_COMPUTE;
		ask_by_alloc(c, arg);
		break;
	case NV_ESC_RM_VID_HEAP_CONTROL:
		ask_by_heap(c, arg);
		break;
	case NV_ESC_RM_ALLOC_MEMORY:
		read_code(c, arg, 12);
		break;
	case NV_ESC_RM_CONTROL:
		read_code(c, arg, 8);
		break;
	}
}

/*
 * Not for the driver: what the kernel answers itself, and, on a stand-in, the
 * terminal's ioctls, which every isatty() sends to /dev/null as well.
 */
INLINE int is_generic(struct gpu_command *c)
{
	switch (c->cmd) {
	case FIONBIO:
	case FIONCLEX:
	case FIOCLEX:
	case FIOASYNC:
	case FIOQSIZE:
		return 1;
	}
	return c->family == GPU_NVIDIA_ANY && ((c->cmd >> 8) & 0xff) == 'T';
}

INLINE void decode(struct gpu_command *c, __u64 arg)
{
	c->nr = c->cmd & 0xff;
	switch (c->family) {
	case GPU_NVIDIA_ANY:
		/* UVM's numbers are plain integers, the driver's have a size. */
		if (c->cmd < 0x1000 || c->cmd == UVM_INITIALIZE || c->cmd == UVM_DEINITIALIZE) {
			c->family = GPU_NVIDIA_UVM;
			break;
		}
		c->family = GPU_NVIDIA;
		break;
	}
	switch (c->family) {
	case GPU_NVIDIA:
		decode_nvidia(c, arg);
		break;
	case GPU_NVIDIA_UVM:
		c->nr = c->cmd;
		if (c->nr == UVM_REGISTER_CHANNEL)
			c->flags |= GPU_COMPUTE;
		break;
	case GPU_KFD:
		if (c->nr == KFD_IOC_CREATE_QUEUE) {
			read_code(c, arg, 40); /* queue_type */
			if (c->flags & GPU_ARG_UNREADABLE || c->code == KFD_QUEUE_COMPUTE ||
			    c->code == KFD_QUEUE_COMPUTE_AQL)
				c->flags |= GPU_COMPUTE;
		} else if (c->nr == KFD_IOC_ALLOC_MEMORY) {
			ask_by_flags(c, arg, 36, KFD_ALLOC_VRAM, 8);
		}
		break;
	case GPU_DRM_AMDGPU:
		/* With user queues there is no CS for each submission. */
		if (c->nr == DRM_AMDGPU_CS || c->nr == DRM_AMDGPU_USERQ)
			c->flags |= GPU_COMPUTE;
		if (c->nr == DRM_AMDGPU_CS)
			read_amdgpu_engine(c, arg);
		else if (c->nr == DRM_AMDGPU_GEM_CREATE)
			ask_by_flags(c, arg, 16, AMDGPU_GEM_DOMAIN_VRAM, 0);
		break;
	case GPU_DRM_I915:
		if (c->nr == DRM_I915_GEM_EXECBUFFER2) {
			c->flags |= GPU_COMPUTE;
			read_code(c, arg, 40); /* flags of struct drm_i915_gem_execbuffer2 */
			c->code &= I915_EXEC_RING_MASK;
		}
		break;
	case GPU_DRM_XE:
		if (c->nr == DRM_XE_EXEC_QUEUE_CREATE || c->nr == DRM_XE_EXEC)
			c->flags |= GPU_COMPUTE;
		if (c->nr == DRM_XE_EXEC_QUEUE_CREATE)
			read_code_behind(c, arg, 24, 0, 2); /* engine_class of the first instance */
		else if (c->nr == DRM_XE_GEM_CREATE)
			read_asked(c, arg + 8);
		break;
	case GPU_ACCEL:
		if (c->nr == HABANALABS_CS)
			c->flags |= GPU_COMPUTE;
		break;
	}
}

#endif
