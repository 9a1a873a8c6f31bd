"""s3 NAME INIT MINUTES LR KDWEIGHT: stage 3 of KEEP channels answers the unpruned C5 (and, with KD, the same scores)"""
import sys; NAME,INIT,MIN,LR,KD=sys.argv[1],sys.argv[2],float(sys.argv[3]),float(sys.argv[4]),float(sys.argv[5]); sys.argv=["x","import"]
exec(open("details/fuse.py").read())
from featherface.models.backbone import Backbone
from featherface.imaging import RgbImage
torch.set_num_threads(1); torch.manual_seed(2)
rest,dev=splits(); labs=cached(rest,"rest"); dev=dev[::2]; dl=cached(dev,"dev")
st=load_model("./featherface/weights/featherface.safetensors").eval(); st.head.forget_second_opinion()
sd=torch.load(INIT); K=sd["stage3.0.pointwise.conv.weight"].shape[0]
nb=Backbone(stage3_channels=(K,128)); nb.load_state_dict(sd); nb.eval()
st2=copy.deepcopy(st); st2.backbone=nb
full=len(sys.argv)>2; INIT2=os.environ.get('INIT2')
if INIT2: st2.load_state_dict(torch.load(INIT2))
ref=frozen_copy(st).to(memory_format=torch.channels_last)
s3=nb.stage3.to(memory_format=torch.channels_last); params=list(s3.parameters())
st2=st2.to(memory_format=torch.channels_last); st2.eval().requires_grad_(False)
rest_=[p for n,p in st2.named_parameters() if n.split('.')[0] in ('neck','neck_attention','context','dynamic_weight_sharing','shuffle')]
params=params+rest_; M0=len(params)-len(rest_)
for p in params: p.requires_grad_(True)
for p in st2.head.parameters(): p.requires_grad_(False)
byname={s.path:l for s,l in zip(rest,labs)}
loader=TrainingLoader(rest,batch_size=16,image_size_px=416,seed=int(time.time()),augment_config=AugmentConfig(crop_scale_max=1.3,min_visible_fraction=0.7),min_face_px=8,read=lambda s:byname[s.path].image,num_threads=1,view_scales=(0.54,0.77,1.0))
opt=torch.optim.AdamW([{'params':params[:M0],'m':1.0},{'params':rest_,'m':0.2}],lr=LR,weight_decay=0)
ema=[p.detach().clone() for p in params]
t0=time.time(); step=views=0; acc=np.zeros(6); var=None; epoch=0
def tail(m,c):
    lv=m.neck(m.backbone_attention(c)); lv=m.neck_attention(m.feature_reuse(lv))
    lv=m.dynamic_weight_sharing(m.context(m.multiscale_intelligence(lv))); lv=m.progressive_enhancement(m.shuffle(lv)); return lv,m.head(lv)
done=False
while not done:
    for b in loader.batches(epoch):
        t=time.time()-t0; frac=t/(MIN*60)
        if frac>=1: done=True; break
        for g in opt.param_groups: g["lr"]=g["m"]*LR*(frac/0.05 if frac<0.05 else 0.5*(1+np.cos(np.pi*(frac-0.05)/0.95)))+1e-6
        with torch.no_grad():
            c3,c4,c5=ref.backbone(b.images)
            v=c5.var((0,2,3)); var=v if var is None else 0.99*var+0.01*v
        y=s3(c4); f=((y-c5)**2).mean((0,2,3)).div(var+1e-4).mean(); loss=f; k=torch.zeros(())
        if KD:
            with torch.no_grad(): wlv,want=tail(ref,(c3,c4,c5))
            glv,got=tail(st2,(c3,c4,y)); fl=[((a-b)**2).mean((0,2,3)).div(b.var((0,2,3))+1e-3).mean() for a,b in zip(glv,wlv)]; maps=sum(fl)
            wl=(want.cls_logits[...,1]-want.cls_logits[...,0]).mul(1.2); gl=(got.cls_logits[...,1]-got.cls_logits[...,0]).mul(1.2)
            p=wl.sigmoid(); hot=(p>0.02)|(gl.detach().sigmoid()>0.02)
            kl=F.binary_cross_entropy_with_logits(gl,p,reduction="none")-F.binary_cross_entropy_with_logits(wl,p,reduction="none")
            k=(kl*hot).sum()/hot.sum().clamp(min=1)+0.2*((want.box_deltas-got.box_deltas).abs().sum(-1)*p).sum()/p.sum().clamp(min=1)
            loss=0.3*f+maps+KD*k; fm=[v.item() for v in fl]
        opt.zero_grad(); loss.backward(); nn.utils.clip_grad_norm_(params,5); opt.step(); step+=1; views+=len(b.images)
        d=min(0.998,(1+step)/(10+step)); torch._foreach_lerp_(ema,[p.data for p in params],1-d)
        acc+=[f.item(),k.item(),1,*fm]
        if step%50==0: print(f"{NAME} {t:.0f}s views {views} fvu {acc[0]/acc[2]:.4f} kd {acc[1]/acc[2]:.4f} maps {acc[3]/acc[2]:.4f} {acc[4]/acc[2]:.4f} {acc[5]/acc[2]:.4f}",flush=True); acc[:]=0
    epoch+=1
for p,e in zip(params,ema): p.data.copy_(e)
torch.save(st2.state_dict(),f"details/{NAME}.pt")
net=Fused(frozen_copy(st2),load_model(TEACHER).backbone.stage1).eval()
for side in (1024,320): print(NAME,side,dev_eval(net,dl,dev,side,False),flush=True)
