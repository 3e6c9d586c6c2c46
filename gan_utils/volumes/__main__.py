from gan_utils.volumes.folder import main

main()
