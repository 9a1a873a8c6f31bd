"""cand WEIGHTS OUT.pkl: candidates on the dev split at 1024"""
import sys; W,OUT=sys.argv[1:3]; sys.argv=["x","import"]
src=open("experiments/details/fuse2.py").read().replace('open("experiments/details/tiny.py").read()','open("experiments/details/tiny.py").read().replace("experiments/details/base",".")')
exec(src)
torch.set_num_threads(1)
m=load_model(W).eval(); net=frozen_copy(m); r=net.head.rescorer
rest,dev=splits(); from featherface.data.labeled import label_image
dl=[label_image(read_photograph(q),q.annotation) for q in dev]; gts=annotated_faces(dev); C=[]; scales=[]
with torch.no_grad():
    for lab,name in zip(dl,gts.names):
        H,W_=lab.image.shape[:2]; s=1024/max(H,W_); scales.append(s)
        im=cv2.resize(lab.image,(round(W_*s),round(H*s)),interpolation=cv2.INTER_LINEAR); h,w=im.shape[:2]; ph,pw=-(-h//32)*32,-(-w//32)*32
        x=torch.from_numpy(to_network_input(np.ascontiguousarray(np.pad(im,((0,ph-h),(0,pw-w),(0,0)))))[None]); pri=mp((ph,pw))
        _,f=net.forward_features(x); net.head.training=True; out=net.head(f.neck); net.head.training=False
        a=(out.cls_logits[0,:,1]-out.cls_logits[0,:,0]); b=torch.cat([r(l,i).permute(0,2,3,1).flatten(1) for i,l in enumerate(f.neck)],1)[0]
        lev=np.concatenate([np.full((ph//st_)*(pw//st_)*2,i*2) for i,st_ in enumerate((8,16,32))]); lev[1::2]+=1
        keep=((a>-5)|(a+.35*(b-a).clamp(-4,4)>-5)).numpy()
        C.append((name,(H,W_,ph,pw),a.numpy()[keep],b.numpy()[keep],out.box_deltas[0].numpy()[keep],out.landmark_deltas[0].numpy()[keep],np.array(pri)[keep],lev[keep]))
import pickle
pickle.dump((C,scales,gts),open(OUT,"wb"))
