/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Device numbers under the real driver's names, and its pages in /proc/driver. Like the real one it
 * makes no nodes in /dev: user space does. Not the driver's is /proc/driver/nvidia/seen.
 */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/spinlock.h>
#include "standin.h"

#define MAJOR_NVIDIA 195
#define CAPS_MINORS 64
#define SEEN_MAX 8192

static struct seen {
	u32 pid, nr, code, status;
	u8 node, wrapped;
} seen[SEEN_MAX];
static u32 seen_count;
static DEFINE_SPINLOCK(seen_lock);

void note_seen(enum node node, u32 nr, u32 code, int wrapped, u32 status)
{
	spin_lock(&seen_lock);
	seen[seen_count++ % SEEN_MAX] = (struct seen){ current->tgid, nr, code, status, node, wrapped };
	spin_unlock(&seen_lock);
}

static int show_seen(struct seq_file *out, void *unused)
{
	static const char *const names[] = { "ctl", "card", "uvm" };
	u32 i = seen_count > SEEN_MAX ? seen_count - SEEN_MAX : 0;

	for (; i < seen_count; i++) {
		struct seen *s = &seen[i % SEEN_MAX];

		seq_printf(out, "%u %s %u %u %u %u\n", s->pid, names[s->node], s->nr, s->code, s->wrapped,
			   s->status);
	}
	return 0;
}

static int show_version(struct seq_file *out, void *unused)
{
	seq_puts(out, "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.105.08  Release Build\n");
	return 0;
}

static int show_card(struct seq_file *out, void *unused)
{
	long minor = (long)out->private;

	seq_printf(out, "Model: \t\t Stand-in\nGPU UUID: \t GPU-00000000-0000-0000-0000-00000000000%ld\n", minor);
	seq_printf(out, "Bus Location: \t 0000:0%ld:00.0\nDevice Minor: \t %ld\n", minor + 1, minor);
	return 0;
}

static int show_slices(struct seq_file *out, void *unused)
{
	seq_puts(out, "config 1\nmonitor 2\ngpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\n");
	return 0;
}

/* The real driver's capability files can be opened, and that is all. */
static const struct file_operations caps_fops = { .owner = THIS_MODULE };

static int uvm_major, caps_major;
static struct proc_dir_entry *pages, *caps_pages;

static int make_pages(void)
{
	struct proc_dir_entry *cards;

	pages = proc_mkdir("driver/nvidia", NULL);
	caps_pages = proc_mkdir("driver/nvidia-caps", NULL);
	if (!pages || !caps_pages)
		return -ENOMEM;
	proc_create_single("version", 0444, pages, show_version);
	proc_create_single("seen", 0444, pages, show_seen);
	proc_create_single("mig-minors", 0444, caps_pages, show_slices);
	cards = proc_mkdir("gpus", pages);
	for (long minor = 0; minor < CARDS; minor++) {
		char name[16];

		snprintf(name, sizeof(name), "0000:0%ld:00.0", minor + 1);
		proc_create_single_data("information", 0444, proc_mkdir(name, cards), show_card, (void *)minor);
	}
	return 0;
}

static void remove_all(void)
{
	proc_remove(pages);
	proc_remove(caps_pages);
	if (caps_major > 0)
		__unregister_chrdev(caps_major, 0, CAPS_MINORS, "nvidia-caps");
	if (uvm_major > 0)
		__unregister_chrdev(uvm_major, 0, 2, "nvidia-uvm");
	__unregister_chrdev(MAJOR_NVIDIA, CTL_MINOR, 1, "nvidiactl");
	__unregister_chrdev(MAJOR_NVIDIA, 0, 248, "nvidia");
}

static int __init standin_init(void)
{
	int error = __register_chrdev(MAJOR_NVIDIA, 0, 248, "nvidia", &rm_fops);

	if (error)
		return error;
	error = __register_chrdev(MAJOR_NVIDIA, CTL_MINOR, 1, "nvidiactl", &rm_fops);
	if (!error) {
		uvm_major = __register_chrdev(0, 0, 2, "nvidia-uvm", &uvm_fops);
		caps_major = __register_chrdev(0, 0, CAPS_MINORS, "nvidia-caps", &caps_fops);
		error = min(uvm_major, caps_major) < 0 ? min(uvm_major, caps_major) : make_pages();
	}
	if (error)
		remove_all();
	return error;
}

static void __exit standin_exit(void)
{
	remove_all();
}

module_init(standin_init);
module_exit(standin_exit);
MODULE_DESCRIPTION("A stand-in for NVIDIA's driver: device numbers and calls, no card");
MODULE_LICENSE("GPL");
