# SPDX-License-Identifier: Apache-2.0
"""Who writes where it will be obeyed later: into ~/.ssh, cron's tables, units, start-up files.

By fanotify(7), on the folders themselves: nobody else's system calls pay for it, nor do other files, and whoever
writes has written, whatever call it took (io_uring and mmap included). It is set up while that is still allowed.
"""
