"""What keys mean together: one file for each part of the tree, each rule a function that gives what is wrong with its remedy, or nothing."""
