from gan_utils.ablation.training import main

main()
