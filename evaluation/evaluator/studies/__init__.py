"""Questions to a network, asked on clips with exact truth: what does its mask do, how good is it on unseen scenes?

`study_clips` makes the clips; `held_out_clips` and `mask_study` answer.
"""
