/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * nvidia-uvm: its numbers are plain integers, no _IOC. INITIALIZE comes first, and what follows must
 * come from the same process, unless it has been told that several share it.
 */
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "standin.h"

#define UVM_INITIALIZE 0x30000001
#define UVM_DEINITIALIZE 0x30000002
#define UVM_MM_INITIALIZE 75
#define UVM_MULTI_PROCESS 0x2
#define ARGUMENT_MAX 9264

struct call {
	u32 nr;
	u16 size;
	u16 status; /* offset of the status word */
};

static const struct call calls[] = {
	{ UVM_INITIALIZE, 16, 8 },
	{ 23, 16, 8 }, /* CREATE_RANGE_GROUP */
	{ 24, 16, 8 }, /* DESTROY_RANGE_GROUP */
	{ 25, 32, 28 }, /* REGISTER_GPU_VASPACE */
	{ 27, 56, 48 }, /* REGISTER_CHANNEL */
	{ 28, 28, 24 }, /* UNREGISTER_CHANNEL */
	{ 33, 9264, 9260 }, /* MAP_EXTERNAL_ALLOCATION */
	{ 34, 24, 16 }, /* FREE */
	{ 37, 40, 36 }, /* REGISTER_GPU */
	{ 38, 20, 16 }, /* UNREGISTER_GPU */
	{ 62, 40, 32 }, /* TOOLS_READ_PROCESS_MEMORY */
	{ 73, 24, 16 }, /* CREATE_EXTERNAL_RANGE */
	{ UVM_MM_INITIALIZE, 8, 4 },
};

struct space {
	struct mutex lock;
	struct mm_struct *owner; /* compared only, never followed */
	int ready;
};

static u32 initialize(struct space *s, u8 *argument)
{
	if (s->ready)
		return NV_ERR_INVALID_STATE;
	s->ready = 1;
	s->owner = *(u64 *)argument & UVM_MULTI_PROCESS ? NULL : current->mm;
	return NV_OK;
}

static long uvm_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct space *s = file->private_data;
	const struct call *call = NULL;
	u32 status = NV_OK;
	long error = 0;
	u8 *argument;

	if (cmd == UVM_DEINITIALIZE)
		return 0;
	for (int i = 0; i < ARRAY_SIZE(calls); i++)
		if (calls[i].nr == cmd)
			call = &calls[i];
	if (!call)
		return -EINVAL;
	argument = memdup_user((void __user *)arg, call->size);
	if (IS_ERR(argument))
		return PTR_ERR(argument);
	mutex_lock(&s->lock);
	if (cmd == UVM_INITIALIZE)
		status = initialize(s, argument);
	else if (cmd != UVM_MM_INITIALIZE && !s->ready)
		status = NV_ERR_INVALID_STATE;
	else if (s->owner && s->owner != current->mm)
		error = -EPERM;
	mutex_unlock(&s->lock);
	note_seen(NODE_UVM, cmd, 0, 0, error ? (u32)error : status);
	*(u32 *)(argument + call->status) = status;
	if (!error && copy_to_user((void __user *)arg, argument, call->size))
		error = -EFAULT;
	kfree(argument);
	return error;
}

static int uvm_open(struct inode *inode, struct file *file)
{
	struct space *s = kzalloc(sizeof(*s), GFP_KERNEL);

	if (!s)
		return -ENOMEM;
	mutex_init(&s->lock);
	file->private_data = s;
	return 0;
}

static int uvm_release(struct inode *inode, struct file *file)
{
	kfree(file->private_data);
	return 0;
}

const struct file_operations uvm_fops = {
	.owner = THIS_MODULE,
	.open = uvm_open,
	.release = uvm_release,
	.unlocked_ioctl = uvm_ioctl,
	.compat_ioctl = uvm_ioctl,
};
