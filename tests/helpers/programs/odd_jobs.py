"""Jobs that end well or badly, for a process of their own, which does not import much to do them."""

import os
import time

from page4d_hf.errors import Page4DError


def die(progress):
    os._exit(9)


def refuse(sentence, progress):
    raise Page4DError(sentence)


def wait(progress):
    time.sleep(600)


def count(number, progress):
    for i in range(number):
        progress("counting", i + 1, number)
    return number
