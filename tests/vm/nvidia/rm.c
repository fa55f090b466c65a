/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * nvidiactl and nvidiaN. As in the real driver, _IOC_NR and _IOC_SIZE alone decide, a call may come
 * inside another (XFER_CMD), and clients belong to the open file of nvidiactl, not to a process:
 * they work after fork, and in whoever is sent the descriptor.
 */
#include <linux/capability.h>
#include <linux/file.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "standin.h"

#define ESC_RM_ALLOC_MEMORY 0x27
#define ESC_RM_FREE 0x29
#define ESC_RM_CONTROL 0x2a
#define ESC_RM_ALLOC 0x2b
#define ESC_REGISTER_FD 201
#define ESC_XFER_CMD 211

#define CLASS_ROOT_LAST 0x01
#define CLASS_ROOT_CLIENT 0x41
/* Both bits of a control's category: for root alone (ctrlxxxx.h). */
#define CONTROL_PRIVILEGED 0xc000

#define OBJECTS_MAX 512
#define ARGUMENT_MAX 4096

struct object {
	u32 client;
	u32 handle;
};

struct opened {
	struct mutex lock;
	struct file *ctl; /* of a card: what REGISTER_FD has named */
	u32 count;
	struct object objects[OBJECTS_MAX];
};

struct escape {
	u8 nr;
	u8 nodes; /* bits of enum node */
	u16 sizes[3]; /* any of these; none: any size */
};

#define CTL (1 << NODE_CTL)
#define CARD (1 << NODE_CARD)

static const struct escape escapes[] = {
	{ ESC_RM_ALLOC_MEMORY, CARD, { 56 } },
	{ ESC_RM_FREE, CTL, { 16 } },
	{ ESC_RM_CONTROL, CTL, { 32 } },
	{ ESC_RM_ALLOC, CTL, { 32, 40, 48 } },
	{ 0x34, CTL, { 28 } }, /* RM_DUP_OBJECT */
	{ 0x35, CTL, { 24 } }, /* RM_SHARE */
	{ 0x41, CTL, { 56 } }, /* RM_IDLE_CHANNELS */
	{ 0x4a, CTL, { 184 } }, /* RM_VID_HEAP_CONTROL */
	{ 0x4e, CTL, { 56 } }, /* RM_MAP_MEMORY */
	{ 0x4f, CTL, { 32 } }, /* RM_UNMAP_MEMORY */
	{ 0x57, CTL, { 56, 64 } }, /* RM_MAP_MEMORY_DMA */
	{ 0x58, CTL, { 40, 48 } }, /* RM_UNMAP_MEMORY_DMA */
	{ 0x5e, CTL, { 40 } }, /* RM_UPDATE_DEVICE_MAPPING_INFO */
	{ 200, CTL | CARD, {} }, /* CARD_INFO */
	{ ESC_REGISTER_FD, CTL | CARD, { 4 } },
	{ 206, CTL | CARD, { 16 } }, /* ALLOC_OS_EVENT */
	{ 207, CTL | CARD, { 16 } }, /* FREE_OS_EVENT */
	{ 209, CTL, { 12 } }, /* STATUS_CODE */
	{ 210, CTL | CARD, { 72 } }, /* CHECK_VERSION_STR */
	{ 212, CTL | CARD, {} }, /* ATTACH_GPUS_TO_FD */
	{ 214, CTL | CARD, { 8 } }, /* SYS_PARAMS */
	{ 215, CTL | CARD, { 560 } }, /* NUMA_INFO */
	{ 218, CTL | CARD, { 8 } }, /* WAIT_OPEN_COMPLETE */
};

static u32 next_client = 0xc1d00001;
static u32 next_object = 0xcaf00001;

static enum node node_of(struct file *file)
{
	return iminor(file_inode(file)) == CTL_MINOR ? NODE_CTL : NODE_CARD;
}

static const struct escape *accepted(u32 nr, u32 size, enum node node)
{
	for (int i = 0; i < ARRAY_SIZE(escapes); i++) {
		const struct escape *e = &escapes[i];

		if (e->nr != nr)
			continue;
		if (!(e->nodes & 1 << node))
			return NULL;
		for (int k = 0; k < ARRAY_SIZE(e->sizes); k++)
			if (!e->sizes[0] || (e->sizes[k] && e->sizes[k] == size))
				return e;
	}
	return NULL;
}

static int has(struct opened *o, u32 client, u32 handle)
{
	for (u32 i = 0; i < o->count; i++)
		if (o->objects[i].client == client && o->objects[i].handle == handle)
			return 1;
	return 0;
}

/* NVOS21 and NVOS64: root, parent, new, class; the status lies where the size says. */
static u32 rm_alloc(struct opened *o, u32 *words, u32 size)
{
	int root = words[3] <= CLASS_ROOT_LAST || words[3] == CLASS_ROOT_CLIENT;
	u32 status = NV_OK;

	if (o->count == OBJECTS_MAX) {
		status = NV_ERR_INSUFFICIENT_RESOURCES;
	} else if (root) {
		if (!words[2])
			words[2] = next_client++;
		words[0] = words[2];
		words[3] = CLASS_ROOT_CLIENT;
	} else if (!has(o, words[0], words[0])) {
		status = NV_ERR_INVALID_CLIENT;
	} else if (!has(o, words[0], words[1])) {
		status = NV_ERR_INVALID_OBJECT_PARENT;
	} else if (!words[2]) {
		words[2] = next_object++;
	}
	if (status == NV_OK && has(o, words[0], words[2]))
		status = NV_ERR_INSERT_DUPLICATE_NAME;
	if (status == NV_OK)
		o->objects[o->count++] = (struct object){ words[0], words[2] };
	words[size == 32 ? 7 : size == 40 ? 9 : 10] = status;
	return status;
}

/* NVOS54: client, object, control, flags, parameters, their size, status. */
static u32 rm_control(struct opened *o, u32 *words)
{
	u32 status = NV_OK;

	if (!has(o, words[0], words[1]))
		status = NV_ERR_INVALID_CLIENT;
	else if ((words[2] & CONTROL_PRIVILEGED) == CONTROL_PRIVILEGED && !capable(CAP_SYS_ADMIN))
		status = NV_ERR_INSUFFICIENT_PERMISSIONS;
	words[7] = status;
	return status;
}

/* NVOS00: root, parent, old, status. With its client, all else of it goes. */
static u32 rm_free(struct opened *o, u32 *words)
{
	u32 kept = 0;

	for (u32 i = 0; i < o->count; i++) {
		struct object *at = &o->objects[i];

		if (at->client == words[0] && (at->handle == words[2] || words[2] == words[0]))
			continue;
		o->objects[kept++] = *at;
	}
	words[3] = kept < o->count ? NV_OK : NV_ERR_INVALID_CLIENT;
	o->count = kept;
	return words[3];
}

/* Ties a card's descriptor to one of nvidiactl, once. */
static int register_fd(struct file *file, struct opened *o, int fd)
{
	struct file *ctl = fget(fd);
	int good = ctl && ctl->f_op == &rm_fops && node_of(ctl) == NODE_CTL && node_of(file) == NODE_CARD &&
		   !o->ctl;

	if (!good) {
		if (ctl)
			fput(ctl);
		return -EINVAL;
	}
	o->ctl = ctl;
	return 0;
}

static long rm_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct opened *o = file->private_data;
	u32 nr = _IOC_NR(cmd), size = _IOC_SIZE(cmd), code = 0, status = NV_OK, *words;
	struct { u32 cmd, size; u64 ptr; } outer;
	void __user *user = (void __user *)arg;
	enum node node = node_of(file);
	int error = 0, wrapped = nr == ESC_XFER_CMD;

	if (wrapped) {
		if (size != sizeof(outer))
			return -EINVAL;
		if (copy_from_user(&outer, user, sizeof(outer)))
			return -EFAULT;
		nr = outer.cmd & 0xff;
		size = outer.size;
		user = (void __user *)outer.ptr;
	}
	if (!accepted(nr, size, node) || size > ARGUMENT_MAX || size % 4)
		return -EINVAL;
	words = memdup_user(user, size);
	if (IS_ERR(words))
		return PTR_ERR(words);
	mutex_lock(&o->lock);
	switch (nr) {
	case ESC_RM_ALLOC_MEMORY:
		code = words[3];
		break;
	case ESC_RM_ALLOC:
		code = words[3]; /* as asked for: a root's is changed */
		status = rm_alloc(o, words, size);
		break;
	case ESC_RM_CONTROL:
		code = words[2];
		status = rm_control(o, words);
		break;
	case ESC_RM_FREE:
		status = rm_free(o, words);
		break;
	case ESC_REGISTER_FD:
		error = register_fd(file, o, words[0]);
		break;
	}
	mutex_unlock(&o->lock);
	note_seen(node, nr, code, wrapped, error ? (u32)error : status);
	if (!error && copy_to_user(user, words, size))
		error = -EFAULT;
	kfree(words);
	return error;
}

static int rm_open(struct inode *inode, struct file *file)
{
	struct opened *o;

	if (iminor(inode) >= CARDS && iminor(inode) != CTL_MINOR)
		return -ENODEV;
	o = kvzalloc(sizeof(*o), GFP_KERNEL);
	if (!o)
		return -ENOMEM;
	mutex_init(&o->lock);
	file->private_data = o;
	return 0;
}

static int rm_release(struct inode *inode, struct file *file)
{
	struct opened *o = file->private_data;

	if (o->ctl)
		fput(o->ctl);
	kvfree(o);
	return 0;
}

const struct file_operations rm_fops = {
	.owner = THIS_MODULE,
	.open = rm_open,
	.release = rm_release,
	.unlocked_ioctl = rm_ioctl,
	.compat_ioctl = rm_ioctl,
};
